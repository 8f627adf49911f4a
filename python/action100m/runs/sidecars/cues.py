"""Read subtitle files, as yt-dlp writes them, as timed cues without cleaning their text."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webvtt

from action100m.runs.sidecars.content import read_content

FORMATS = ("json3", "vtt", "srt")
"""Suffixes of subtitle files, the most informative format first."""

_WORD_TIME = re.compile(r"<[0-9]{2}:[0-9:.]+>")


@dataclass(frozen=True)
class Cue:
    """Lines that are shown from `start` to `end`, in seconds."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cues:
    """Contents of a subtitle file.

    Attributes:
        cues: in the order of the file.
        by_machine: whether speech recognition wrote it: it has word times or confidences.
        may_roll: whether lines may stay on the screen while new ones appear.
    """

    cues: tuple[Cue, ...]
    by_machine: bool
    may_roll: bool = True


def read_cues(path: Path) -> Cues:
    """Read a .json3, .vtt or .srt file.

    Raises:
        ValueError: the file is not a subtitle file, or is too large.
        OSError: the file cannot be read.
    """
    text = _decoded(read_content(path))
    kind = path.suffix[1:].lower()
    return _json3(text) if kind == "json3" else _webvtt(text, kind)


def _decoded(content: bytes) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    return content.decode("utf-8-sig", "replace")


def _webvtt(text: str, kind: str) -> Cues:
    lines = "\n".join(text.replace("\0", "").splitlines()).strip() + "\n"
    if kind == "vtt" and lines.startswith("WEBVTT") and "-->" not in lines:
        return Cues((), False)
    try:
        captions = webvtt.from_buffer(io.StringIO(lines), format=kind)
        cues = [
            Cue(_seconds(caption.start), _seconds(caption.end), tuple(caption.lines))
            for caption in captions.captions
        ]
    except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError) as error:
        raise ValueError(f"it is not a {kind.upper()} file ({error})") from error
    if not cues and "-->" in lines:
        raise ValueError("it has no cue with readable times")
    return Cues(tuple(cues), any(_WORD_TIME.search(line) for cue in cues for line in cue.lines))


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return round(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 3)


def _json3(text: str) -> Cues:
    try:
        events = json.loads(text)["events"]
        cues = list(_events(events))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is not a JSON3 file, or one of its events cannot be read") from error
    by_machine = any("acAsrConf" in seg for event in events for seg in _segs(event))
    # JSON3 contains recognised speech once; its lines roll only when a player shows them.
    return Cues(tuple(cues), by_machine, may_roll=not by_machine)


def _events(events: list[dict[str, Any]]) -> Iterator[Cue]:
    for event in events:
        segs = _segs(event)
        words = [str(seg.get("utf8") or "") for seg in segs]
        first = next((seg for seg, text in zip(segs, words, strict=True) if text.strip()), None)
        if first is None:
            continue
        begin = _milliseconds(event.get("tStartMs", 0))
        start = begin + _milliseconds(first.get("tOffsetMs", 0))
        end = begin + _milliseconds(event.get("dDurationMs", 0))
        yield Cue(start / 1000, end / 1000, ("".join(words),))


def _segs(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [seg for seg in event.get("segs") or [] if isinstance(seg, dict)]


def _milliseconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise TypeError(f"{value!r} is not a number of milliseconds")
    return value
