"""Convert seconds to FiftyOne's frame numbers and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from action100m.schema import HUNDREDTHS


@dataclass(frozen=True)
class FrameClock:
    """How a sample counts time: n frames, numbered from 1, over its first seconds.

    FiftyOne treats frames as evenly spaced: the first is at 0 s, the last at `duration`.

    Attributes:
        frames: n.
        duration: seconds.
        media: other properties of the file, by the names of FiftyOne's VideoMetadata.
    """

    frames: int
    duration: float
    media: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames < 1 or not 0 < self.duration < np.inf:
            raise ValueError(f"{self.frames} frames cannot last {self.duration} s.")

    def support(self, start: ArrayLike, end: ArrayLike) -> NDArray[np.int64]:
        """Return the first and last frame, both included, clipped to the sample, (k, 2).

        Args:
            start, end: (k,) seconds.
        """
        times = np.clip(np.stack([start, end], axis=-1), 0, self.duration)
        steps: NDArray[np.int64] = np.rint(times / self.duration * (self.frames - 1)).astype(int)
        return 1 + steps

    def seconds(self, frame: ArrayLike) -> NDArray[np.float64]:
        """Return the seconds of frame numbers, to within half the distance between two frames."""
        steps = np.asarray(frame, np.float64) - 1
        return steps / max(1, self.frames - 1) * self.duration

    def metadata(self) -> dict[str, Any]:
        """Return FiftyOne's VideoMetadata."""
        return {
            "_cls": "VideoMetadata",
            "frame_rate": round(self.frames / self.duration, 6),
            "total_frame_count": self.frames,
            "duration": self.duration,
            **self.media,
        }


def clock_without_media(full: float, seconds: float) -> FrameClock:
    """Return the clock of a sample without a file: one frame number per hundredth of a second.

    Published times have the same decimals, so no precision is lost.

    Args:
        full: duration of the whole video in seconds.
        seconds: duration of the part that the sample covers.
    """
    steps = max(1, round(min(full, seconds) * HUNDREDTHS))
    return FrameClock(steps + 1, steps / HUNDREDTHS, {"frame_rate": float(HUNDREDTHS)})
