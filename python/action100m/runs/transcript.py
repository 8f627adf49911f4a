"""The subtitle files beside a video to one transcript: clean lines, each said once."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from action100m.runs.cues import FORMATS, Cue, Cues, read_cues

_TAG = re.compile(r"</?[a-zA-Z!][^<>]*>|<[0-9]{2}:[0-9:.]+>|\{\\[^{}]*\}")
_ROLLING = 0.3  # of the pairs of cues, where lines move up the screen
# Of Arabic and Indic scripts and of joined emoji: format characters that change what is shown.
_ORTHOGRAPHY = {"\u200c", "\u200d", "\u06dd", *map(chr, range(0x600, 0x606))}
_MOST_LINES = 16  # that stay on a screen
_GAP = 0.1  # seconds between two cues of which the second goes on where the first stood


@dataclass(frozen=True)
class Line:
    """Words and the second from which on they are said."""

    time: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What is said in a video.

    Attributes:
        lines: in the order of time.
        problems: a sentence for each file that could not be used.
    """

    lines: tuple[Line, ...] = ()
    problems: tuple[str, ...] = ()

    def row(self) -> list[dict[str, str]] | None:
        """As schema.METADATA has it; None where nothing is said."""
        return [
            {"time": f"{n.time:.3f}".rstrip("0").rstrip("."), "text": n.text} for n in self.lines
        ] or None


class SubtitleFiles:
    """Finds the subtitle files beside videos; lists a folder once, however many videos it holds."""

    def __init__(self) -> None:
        self._listed = cache(_list)

    def beside(self, video: Path) -> list[Path]:
        """`X.LANGUAGE.vtt` and `X.vtt` beside `X.mp4`, and so on for each format, sorted."""
        return self._listed(video.parent).get(video.stem, [])


def _list(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return {}
    for file in files:
        if file.suffix[1:].lower() in FORMATS:
            stem, _, language = file.stem.rpartition(".")
            found.setdefault(file.stem, []).append(file)
            if stem and language:
                found.setdefault(stem, []).append(file)
    return found


def read_transcript(video: Path, files: Iterable[Path], languages: Sequence[str]) -> Transcript:
    """The best of the subtitle files of a video.

    The first of the wanted languages that is there; what people wrote before what speech
    recognition heard; json3 before vtt before srt. Never raises: what is wrong is in `problems`.

    Args:
        video: whose files they are.
        files: its subtitle files.
        languages: wanted, the best first: "en" takes en, en-US and en-orig. A file that names no
            language is taken for any.
    """
    problems: list[str] = []
    tagged = [(file, _language(file, video)) for file in files]
    for wanted in languages:
        usable = []
        for file, language in tagged:
            if _is(language, wanted) and (cues := _read(file, problems)) and cues.cues:
                rank = cues.by_machine, language != wanted, FORMATS.index(file.suffix[1:].lower())
                usable.append((rank, cues))
        if usable:
            _, best = min(usable, key=lambda each: each[0])
            return Transcript(tuple(spoken_lines(best)), tuple(problems))
    others = {language for _, language in tagged if not any(_is(language, w) for w in languages)}
    if others:
        problems.append(
            f"{video} has subtitles in {', '.join(sorted(others))} only, not in "
            f"{', '.join(languages)}: metadata.languages says which to use."
        )
    return Transcript((), tuple(problems))


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
    """Clean lines in the order of time; where lines move up the screen, each once."""
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
        if before is not None and _goes_on(before, cue):
            if _grows(before.lines, fresh):
                lines[-1] = Line(lines[-1].time, fresh[-1])
                fresh = ()
            fresh = fresh[_carried(before.lines, fresh) :]
        lines += [Line(cue.start, text) for text in fresh]
        before = cue
    return lines


def clean_line(text: str) -> str:
    """The words of a line: no markup, no characters that show nothing, single spaces."""
    words = html.unescape(_TAG.sub("", text))
    kept = " ".join("".join(map(_visible, words)).split())
    return kept if any(unicodedata.category(c) not in ("Cf", "Zs") for c in kept) else ""


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" and character not in _ORTHOGRAPHY:
        return ""
    return " " if category in ("Cc", "Cs", "Zl", "Zp", "Zs") else character


def _rolls(cues: Sequence[Cue], *, by_machine: bool) -> bool:
    """Whether lines stay on the screen while others come: people who say a thing twice do not."""
    # Two equal cues of a person's are more likely a song's than a still.
    pairs = [(a, b) for a, b in pairwise(cues) if by_machine or a.lines != b.lines]
    stay = sum(_goes_on(a, b) and _repeats(a.lines, b.lines) for a, b in pairs)
    return bool(pairs) and stay > 0 and (by_machine or stay >= max(2, _ROLLING * len(pairs)))


def _repeats(before: Sequence[str], lines: Sequence[str]) -> bool:
    return _carried(before, lines) > 0 or _grows(before, lines)


def _grows(before: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether the last line got more words, and nothing else changed."""
    return before[:-1] == lines[:-1] and lines[-1].startswith(f"{before[-1]} ")


def _goes_on(before: Cue, cue: Cue) -> bool:
    return cue.start <= before.end + _GAP


def _carried(before: Sequence[str], lines: Sequence[str]) -> int:
    """How many of the first lines are the last ones of what stood there before."""
    longest = min(len(before), len(lines), _MOST_LINES)
    return next((k for k in range(longest, 0, -1) if tuple(before[-k:]) == tuple(lines[:k])), 0)
