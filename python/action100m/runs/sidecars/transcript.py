"""Turn the subtitle files of a video into one transcript of clean, unrepeated lines."""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from action100m.runs.sidecars.cues import FORMATS, Cue, Cues, read_cues
from action100m.runs.sidecars.metadata import automatic_languages

_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>|<[0-9]{2}:[0-9:.]+>|\{\\[^{}]*\}")
_ROLLING = 0.3  # least share of cue pairs that repeat lines, if lines roll up the screen
# Format characters that change what is shown: of Arabic and Indic scripts and joined emoji.
_ORTHOGRAPHY = {"\u200c", "\u200d", "\u06dd", *map(chr, range(0x600, 0x606))}
_MOST_LINES = 16  # that may stay on the screen
_GAP = 0.1  # most seconds between two cues of which the second continues the first


@dataclass(frozen=True)
class Line:
    """A line of text and the second at which it begins."""

    time: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """Transcript of a video.

    Attributes:
        lines: in order of time.
        problems: a sentence for each file that could not be used.
    """

    lines: tuple[Line, ...] = ()
    problems: tuple[str, ...] = ()

    def row(self) -> list[dict[str, str]] | None:
        """Return the lines in the form of schema.METADATA; None if there are none."""
        return [
            {"time": f"{n.time:.3f}".rstrip("0").rstrip("."), "text": n.text} for n in self.lines
        ] or None


class SubtitleFiles:
    """Finds the subtitle files next to videos; lists each folder only once."""

    def __init__(self) -> None:
        self._listed = cache(_list)

    def list_folder(self, folder: Path) -> None:
        """List a folder, before several threads ask about its videos, as each would list it."""
        self._listed(folder)

    def beside(self, video: Path) -> list[Path]:
        """Return `X.LANGUAGE.vtt` and `X.vtt` for `X.mp4`, likewise for each format, sorted."""
        return self._listed(video.parent).get(video.stem, [])


def _list(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    try:
        with os.scandir(folder) as entries:  # a million paths would take long to sort
            names = sorted(entry.name for entry in entries)
    except OSError:
        return {}
    for name in names:
        whole, _, suffix = name.rpartition(".")
        if whole and suffix.lower() in FORMATS:
            stem, _, language = whole.rpartition(".")
            found.setdefault(whole, []).append(folder / name)
            if stem and language:
                found.setdefault(stem, []).append(folder / name)
    return found


def read_transcript(video: Path, files: Iterable[Path], languages: Sequence[str]) -> Transcript:
    """Read the best of the subtitle files of a video.

    The first available language counts; in it, human before machine transcripts (as the file or
    the info.json shows), then exact language tags, then json3 before vtt before srt. Never raises:
    errors are in `problems`.

    Args:
        video: video of the files.
        files: subtitle files of the video.
        languages: wanted languages, the best first: "en" matches en, en-US and en-orig. A file
            without a language matches any.
    """
    problems: list[str] = []
    tagged = [(file, _language(file, video)) for file in files]
    for wanted in languages:
        usable = [
            (file, language, cues)
            for file, language in tagged
            if _is(language, wanted) and (cues := _read(file, problems)) and cues.cues
        ]
        if usable:
            best = _best(usable, wanted, video) if len(usable) > 1 else usable[0][2]
            return Transcript(tuple(spoken_lines(best)), tuple(problems))
    others = {language for _, language in tagged if not any(_is(language, w) for w in languages)}
    if others:
        problems.append(
            f"{video} has subtitles in {', '.join(sorted(others))} only, not in "
            f"{', '.join(languages)}: set metadata.languages to those to use."
        )
    return Transcript((), tuple(problems))


def _best(usable: Sequence[tuple[Path, str, Cues]], wanted: str, video: Path) -> Cues:
    automatic = automatic_languages(video)  # an SRT file does not show that a machine wrote it

    def rank(each: tuple[Path, str, Cues]) -> tuple[bool, bool, int]:
        file, language, cues = each
        by_machine = cues.by_machine or language in automatic
        return by_machine, language != wanted, FORMATS.index(file.suffix[1:].lower())

    return min(usable, key=rank)[2]


def _read(file: Path, problems: list[str]) -> Cues | None:
    try:
        return read_cues(file)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        problems.append(f"{file} was not used: {reason}.")
        return None


def _language(file: Path, video: Path) -> str:
    return file.stem[len(video.stem) + 1 :]


def _is(language: str, wanted: str) -> bool:
    tag, wish = language.lower(), wanted.lower()
    return not tag or tag == wish or tag.startswith(f"{wish}-")


def spoken_lines(cues: Cues) -> list[Line]:
    """Return clean lines in order of time; lines that roll up the screen are returned once."""
    cleaned = [
        Cue(cue.start, cue.end, tuple(filter(None, map(clean_line, cue.lines))))
        for cue in cues.cues
        if cue.start >= 0
    ]
    shown = sorted((cue for cue in cleaned if cue.lines), key=lambda cue: cue.start)
    if not (cues.may_roll and _rolls(shown, by_machine=cues.by_machine)):
        return [Line(cue.start, " ".join(cue.lines)) for cue in shown]
    lines: list[Line] = []
    before: Cue | None = None
    for cue in shown:
        fresh = cue.lines
        if before is not None and _continues(before, cue):
            if _grows(before.lines, fresh):
                lines[-1] = Line(lines[-1].time, fresh[-1])
                fresh = ()
            fresh = fresh[_carried(before.lines, fresh) :]
        lines += [Line(cue.start, text) for text in fresh]
        before = cue
    return lines


def clean_line(text: str) -> str:
    """Return a line without markup and invisible characters, with single spaces."""
    words = html.unescape(_TAG.sub("", text))
    if words.isprintable():  # most lines; the categories of characters take longer
        return " ".join(words.split())
    kept = " ".join("".join(map(_visible, words)).split())
    return kept if any(unicodedata.category(c) not in ("Cf", "Zs") for c in kept) else ""


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" and character not in _ORTHOGRAPHY:
        return ""
    return " " if category in ("Cc", "Cs", "Zl", "Zp", "Zs") else character


def _rolls(cues: Sequence[Cue], *, by_machine: bool) -> bool:
    """Return whether lines stay on the screen while new ones appear, unlike words said twice."""
    # Two equal cues that a person wrote are more likely a refrain than a line that stays.
    pairs = [(a, b) for a, b in pairwise(cues) if by_machine or a.lines != b.lines]
    stay = sum(_continues(a, b) and _repeats(a.lines, b.lines) for a, b in pairs)
    return bool(pairs) and stay > 0 and (by_machine or stay >= max(2, _ROLLING * len(pairs)))


def _repeats(before: Sequence[str], lines: Sequence[str]) -> bool:
    return _carried(before, lines) > 0 or _grows(before, lines)


def _grows(before: Sequence[str], lines: Sequence[str]) -> bool:
    """Return whether the last line gained words and nothing else changed."""
    return before[:-1] == lines[:-1] and lines[-1].startswith(f"{before[-1]} ")


def _continues(before: Cue, cue: Cue) -> bool:
    return cue.start <= before.end + _GAP


def _carried(before: Sequence[str], lines: Sequence[str]) -> int:
    """Return how many of the first lines are the last lines of the previous cue."""
    longest = min(len(before), len(lines), _MOST_LINES)
    return next((k for k in range(longest, 0, -1) if tuple(before[-k:]) == tuple(lines[:k])), 0)
