"""Read the yt-dlp sidecar of a video: untrusted JSON, reduced to a few validated fields."""

from __future__ import annotations

import errno
import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path

from action100m.runs.sidecars.content import read_content

_DATE = re.compile(r"([0-9]{4})([-/.]?)([0-9]{2})\2([0-9]{2})(?:[T ].*)?", re.DOTALL)
_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?")


@dataclass(frozen=True)
class VideoMetadata:
    """Metadata of a video from its site; None for values that are missing or unusable.

    Attributes:
        id: the site's id of the video.
        title, description: text, valid UTF-8.
        view_count, like_count: not negative.
        duration: whole seconds; may differ from the duration of the file.
        upload_date: YYYYMMDD.
        problems: a sentence for each value, or file, that could not be used.
    """

    id: str | None = None
    title: str | None = None
    description: str | None = None
    view_count: int | None = None
    like_count: int | None = None
    duration: int | None = None
    upload_date: str | None = None
    problems: tuple[str, ...] = ()

    def row(
        self, file_duration: float, transcript: list[dict[str, str]] | None = None
    ) -> dict[str, object]:
        """Return the fields of schema.METADATA.

        Args:
            file_duration: seconds of the file, used if the site gives no duration.
            transcript: lines of its transcript, if it has one.
        """
        return {
            "title": self.title,
            "description": self.description,
            "view_count": self.view_count,
            "like_count": self.like_count,
            "duration": round(file_duration) if self.duration is None else self.duration,
            "upload_date": self.upload_date,
            "transcript": transcript,
        }


def sidecar_path(video: Path) -> Path:
    """Return where yt-dlp writes the metadata of a video: `X.info.json` next to `X.mp4`."""
    return video.with_suffix(".info.json")


def uid_of(video: Path, metadata: VideoMetadata) -> str:
    """Return the video's uid: its id on the site, else the file's stem (as valid UTF-8)."""
    return metadata.id or _valid(video.stem)


def read_sidecar(video: Path) -> VideoMetadata:
    """Read the sidecar of a video. Never raises: errors are reported in `problems`."""
    path = sidecar_path(video)
    shown = _valid(str(path))
    try:
        return checked_metadata(shown, _load(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):  # no file can have that name
            return VideoMetadata()
        reason = error.strerror
    except ValueError as error:
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    return VideoMetadata(problems=(f"{shown} was not used: {reason}.",))


def automatic_languages(video: Path) -> set[str]:
    """Return the languages in which the site has only subtitles by a machine, by the sidecar."""
    try:
        fields = _load(sidecar_path(video))
    except (OSError, ValueError, RecursionError):  # `read_sidecar` reports it
        return set()
    machine, human = fields.get("automatic_captions"), fields.get("subtitles")
    # Where there are both, yt-dlp downloads those by people.
    return set(machine if isinstance(machine, dict) else ()) - set(
        human if isinstance(human, dict) else ()
    )


def _load(path: Path) -> Mapping[str, object]:
    content = read_content(path)
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise ValueError(f"it is not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    if fields.get("_type") in ("playlist", "multi_video"):
        raise ValueError("it describes a playlist, not a video")
    return fields


def checked_metadata(source: str, fields: Mapping[str, object]) -> VideoMetadata:
    """Validate the fields of an info.json, or of a table row with the same names.

    Args:
        source: name of the file or row, for `problems`.
        fields: values by yt-dlp's names.
    """
    return _Reader(source, fields).metadata()


class _Reader:
    """Reads the fields of one sidecar and records what is wrong with them."""

    def __init__(self, shown: str, fields: Mapping[str, object]) -> None:
        self._shown = shown
        self._fields = fields
        self._problems: list[str] = []

    def metadata(self) -> VideoMetadata:
        return VideoMetadata(
            id=self._id(),
            title=self._text("title"),
            description=self._text("description"),
            view_count=self._count("view_count"),
            like_count=self._count("like_count"),
            duration=self._duration(),
            upload_date=self._upload_date(),
            problems=tuple(self._problems),
        )

    def _refuse(self, name: str, value: object, wanted: str) -> None:
        shown = _valid(reprlib.repr(value))
        self._problems.append(f"{self._shown}: {name} is {shown}, not {wanted}; it was left out.")

    def _text(self, name: str) -> str | None:
        value = self._fields.get(name)
        if isinstance(value, str):
            return _valid(value)
        if value is not None:
            self._refuse(name, value, "text")
        return None

    def _id(self) -> str | None:
        text = self._text("id")
        if text is not None and not text.strip():
            self._refuse("id", text, "an id")
            return None
        return text

    def _count(self, name: str) -> int | None:
        value = self._fields.get(name)
        number = _number(value)
        if number is not None and number == int(number):
            return int(number)
        if value is not None:
            self._refuse(name, value, "a count")
        return None

    def _duration(self) -> int | None:
        value = self._fields.get("duration")
        number = _number(value)
        if number is None and value is not None:
            self._refuse("duration", value, "a number of seconds")
        return None if number is None else round(number)

    def _upload_date(self) -> str | None:
        for name in ("upload_date", "timestamp", "release_date", "release_timestamp"):
            value = self._fields.get(name)
            day = _moment(value) if name.endswith("timestamp") else _date(value)
            if day is not None:
                return day.isoformat().replace("-", "")
            if value is not None:
                self._refuse(name, value, "a date")
        return None


def _valid(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _number(value: object) -> int | float | None:
    """Return a number, or decimal text, that is from 0 to the largest int64; else None."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value < 2**63 else None


def _date(value: object) -> date | None:
    """Return the date that text or a number gives as YYYYMMDD or YYYY-MM-DD; else None."""
    match = _DATE.fullmatch(str(value).strip())
    try:
        return date(int(match[1]), int(match[3]), int(match[4])) if match else None
    except ValueError:
        return None


def _moment(value: object) -> date | None:
    """Return the UTC date of a Unix time; None if there is no such date."""
    number = _number(value)
    try:
        return None if number is None else datetime.fromtimestamp(number, timezone.utc).date()
    except (OverflowError, OSError, ValueError):
        return None
