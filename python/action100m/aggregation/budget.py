"""Select the captions and transcript lines that fit into a prompt, and name the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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


def fit_transcript(said: Sequence[Line], room: int) -> list[Line]:
    """Drop every second line until the rest fits, which thins them evenly over time."""
    kept = list(said)
    while sum(line.tokens for line in kept) > room:
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
        ValueError: not even the line of the last segment fits.
    """
    *inner, own = span
    kept, used = {own}, lines[own].tokens
    if used > room:
        raise ValueError("Its own caption does not fit the model's context.")
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
