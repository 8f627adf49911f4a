"""Select the captions and transcript lines that fit into a prompt, and name the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


class NoRoomError(ValueError):
    """Not even what a prompt must contain fits; the message says what is too long."""


@dataclass(frozen=True)
class Line:
    """A line of a prompt.

    Attributes:
        text: its text.
        cut: whether something in it was too long and was cut.
        tokens: number of its tokens.
    """

    text: str
    cut: bool
    tokens: int


def fit_text(text: str, room: int, count: Callable[[Sequence[str]], list[int]]) -> int:
    """Return how many characters of a text fit into `room` >= 1 tokens."""
    while text and (tokens := count([text])[0]) > room:
        text = text[: len(text) * room // tokens]
    return len(text)


def fit_transcript(said: Sequence[Line], room: int) -> list[Line]:
    """Drop every second line until the rest fits, which thins them evenly over time."""
    kept = list(said)
    while kept and sum(line.tokens for line in kept) > room:
        kept = kept[::2] if len(kept) > 1 else []
    return kept


def fit_captions(
    span: Sequence[int], levels: Mapping[int, int], lines: Sequence[Line], room: int
) -> list[int]:
    """Select the segments that fit: deep levels are dropped first; one that fits partly is thinned.

    Args:
        span: numbers of the segments, the one to annotate last.
        levels: level of each segment.
        lines: line of each segment.
        room: maximum number of tokens of all lines together.

    Raises:
        NoRoomError: not even the line of the last segment fits.
    """
    *inner, own = span
    kept, used = {own}, lines[own].tokens
    if used > room:
        raise NoRoomError(
            f"The captions of one of its segments have {used} tokens, but the rest of the prompt "
            f"leaves room for only {max(room, 0)}."
        )
    for level in sorted({levels[node] for node in inner}):
        here = [node for node in inner if levels[node] == level]
        need = sum(lines[node].tokens for node in here)
        if used + need <= room:
            kept.update(here)
            used += need
            continue
        share = (room - used) * len(here) // max(need, 1)
        for pick in np.unique(np.linspace(0, len(here) - 1, share).astype(int)).tolist():
            if used + lines[here[pick]].tokens <= room:
                kept.add(here[pick])
                used += lines[here[pick]].tokens
        break
    return [node for node in span if node in kept]


def missing_captions(
    span: Sequence[int], kept: Sequence[int], levels: Mapping[int, int]
) -> Iterator[str]:
    """Yield a phrase with the number and levels of omitted captions; nothing if none is omitted."""
    if missing := set(span) - set(kept):
        found = {levels[node] for node in missing}
        first, last = min(found), max(found)
        which = f"level {first}" if first == last else f"levels {first} to {last}"
        yield f"{len(missing)} of {len(span)} captions ({which})"
