"""Clips of a video, and how to cut many, including nested ones, in one pass over the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from action100m.errors import VideoError

ENCODER = "libx264"
"""FFmpeg's encoder of clips that are not copies."""


class TargetError(OSError):
    """A clip's file cannot be opened for writing."""


_SLACK = 0.5
"""Seconds that may be missing at the end of a clip: the same video in another encoding may end a
little earlier or later, and a segment lasts at least this long."""


@dataclass(frozen=True)
class Preview:
    """How to make a clip for browsers: small, and playable while it loads.

    Attributes:
        side: length of the shorter side in pixels, even.
        comment: a note for the file's metadata.
    """

    side: int
    comment: str


@dataclass(frozen=True)
class Clip:
    """A requested clip: the part of a video shown from `start` (inclusive) to `end` (exclusive).

    Attributes:
        start, end: seconds since the first frame.
        target: the MP4 file to write.
        preview: how to make a preview, if it is to be one: the video may then end before `end`, and
            no frame is shown beyond it. In other clips, the last frame lasts as in the video.
    """

    start: float
    end: float
    target: Path
    preview: Preview | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.start) or math.isnan(self.end):
            raise ValueError(
                f"A clip must start and end at a time, but got {self.start} to {self.end}."
            )


@dataclass(frozen=True)
class Obtained:
    """What a written clip contains.

    Attributes:
        start, end: seconds of the video at which its first frame appears and its last frame
            ends.
        frames: number of frames.
    """

    start: float
    end: float
    frames: int


Outcome = Obtained | VideoError
"""The result for one clip: what it contains, or why it could not be written."""


def tracks(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Arrange clips in as few rows as possible, so that the clips of a row do not overlap.

    A tree gives as many rows as it has levels, so at most that many clips are open at one time.
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
    """Return the outcome of a clip, or a VideoError if it is not the clip that was requested.

    Args:
        clip: the requested clip.
        obtained: what was written, or why nothing was; None if no frame appears in the clip.
        video_end: seconds at which the video ends, as far as it was read.
    """
    wanted = f"{clip.start:.2f} to {clip.end:.2f} s"
    if clip.preview is None and video_end < clip.end - _SLACK:
        reason = f"The video ends at {video_end:.2f} s, before the end of {wanted}."
        return VideoError(f"{reason} Check that the times belong to this video.")
    return obtained or VideoError(f"No frame appears in {wanted}.")
