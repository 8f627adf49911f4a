"""Cuts a video into clips, many of them and nested ones in one pass over the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from action100m.errors import VideoError


class TargetError(OSError):
    """A clip's file cannot be opened for writing."""


_SLACK = 0.5
"""Seconds that a clip may lack at its end: the same video in another coding ends a little sooner or
later, and a segment lasts at least this long."""


@dataclass(frozen=True)
class Clip:
    """A piece of a video that is wanted: what is shown from `start` on and before `end`.

    Attributes:
        start, end: seconds since the first frame.
        target: the MP4 file to write.
    """

    start: float
    end: float
    target: Path

    def __post_init__(self) -> None:
        if math.isnan(self.start) or math.isnan(self.end):
            raise ValueError(
                f"A clip must start and end at a time, not from {self.start} to {self.end}."
            )


@dataclass(frozen=True)
class Obtained:
    """What a clip really holds.

    Attributes:
        start, end: seconds of the video at which its first frame appears and its last one gives
            way to the next.
        frames: how many it has.
    """

    start: float
    end: float
    frames: int


Outcome = Obtained | VideoError
"""Of one clip: what it holds, or why it could not be had."""


def tracks(clips: Iterable[Clip]) -> list[list[Clip]]:
    """The clips in as few rows as can be, in each of which they follow one another.

    Of a tree there are as many rows as levels: that many clips are open at one time at most.
    """
    rows: list[list[Clip]] = []
    for clip in sorted(clips, key=lambda clip: (clip.start, -clip.end)):
        free = (row for row in rows if row[-1].end <= clip.start)
        row = next(free, None)
        if row is None:
            rows.append(row := [])
        row.append(clip)
    return rows


def judged(clip: Clip, obtained: Outcome | None, video_end: float) -> Outcome:
    """The clip as it was obtained, if it is what was asked for.

    Args:
        clip: that was asked for.
        obtained: or why it cannot be written; None where no frame appears in it.
        video_end: seconds, as far as the video was read.
    """
    wanted = f"{clip.start:.2f} to {clip.end:.2f} s"
    if video_end < clip.end - _SLACK:
        reason = f"The video ends at {video_end:.2f} s, before the end of {wanted}."
        return VideoError(f"{reason} Check that the times belong to this video.")
    return obtained or VideoError(f"No frame appears in {wanted}.")
