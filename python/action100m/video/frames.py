"""What a decoder returns: batches of sampled frames, in order, and a report on the whole file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[float, float | None], None]
"""Called with the seconds of video decoded so far and the duration that the file claims (or None);
may raise an exception to stop."""


Aspect = Literal["keep", "stretch", "pad", "crop"]


@dataclass(frozen=True)
class FrameSpec:
    """Which frames to take and at what size.

    Attributes:
        stride: every `stride`-th raw frame is sampled, starting with the first (the paper: 4).
        side: length in pixels, after rotation and sample aspect ratio are applied: of the shorter
            side if the aspect is kept, else of the square.
        aspect: "keep", or how a picture becomes square: "stretch", "pad" with black bars, or
            "crop" to its middle.
    """

    stride: int
    side: int
    aspect: Aspect = "keep"

    def __post_init__(self) -> None:
        if self.stride < 1 or self.side < 1:
            raise ValueError(f"stride and side must be at least 1, not {self}.")


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Consecutive sampled frames.

    Attributes:
        index: (b,) int64, raw frame numbers, counted from 0 in presentation order.
        times: (b,) float64 seconds; 0 is the first frame's presentation time; strictly increasing.
        pixels: (b, h, w, 3) uint8 RGB.
    """

    index: NDArray[np.int64]
    times: NDArray[np.float64]
    pixels: NDArray[np.uint8]


def check_pixels(pixels: NDArray[np.uint8]) -> None:
    """Check that pixels are (b, h, w, 3) uint8 RGB with h, w >= 1.

    Raises:
        TypeError: pixels are not uint8.
        ValueError: pixels have another shape.
    """
    if pixels.dtype != np.uint8:
        raise TypeError(f"Frames must be uint8 RGB, not {pixels.dtype}.")
    if pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape[1:3]:
        raise ValueError(f"Frames must have shape (b, h, w, 3) with h, w >= 1, not {pixels.shape}.")


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video from its container and first frame.

    Attributes:
        width, height: display size of the first frame in pixels, with rotation and sample aspect
            ratio applied.
        frame_rate: average frames per second, or None if the file does not say.
        duration: claimed seconds, or None. It may be wrong: use it for estimates only.
        codec, container: FFmpeg's names.
    """

    width: int
    height: int
    frame_rate: float | None
    duration: float | None
    codec: str
    container: str

    @property
    def interval(self) -> float | None:
        """Nominal seconds between two frames, or None if the file does not say."""
        return 1 / self.frame_rate if self.frame_rate else None


@dataclass(frozen=True)
class DecodeReport:
    """Results of one complete pass over a file.

    Attributes:
        frames: number of raw frames decoded.
        expected: number of raw frames that the file should contain.
        end: second at which the last raw frame ends.
        repaired_times: number of timestamps replaced because they were missing, did not advance
            or leapt.
        errors: number of decoder and demuxer errors.
        first_error: FFmpeg's message for the first error, or "".
    """

    frames: int
    expected: int
    end: float
    repaired_times: int
    errors: int
    first_error: str

    @property
    def coverage(self) -> float:
        """Fraction of the expected frames that were decoded, 0 to 1."""
        return min(1.0, self.frames / self.expected) if self.expected else 0.0


class FrameStream(Protocol):
    """One pass over a video. Iterate to the end, then read `report`."""

    @property
    def info(self) -> VideoInfo: ...

    @property
    def report(self) -> DecodeReport:
        """The report, available once the iteration has ended; raises RuntimeError before."""
        ...

    def __iter__(self) -> Iterator[FrameBatch]: ...

    def close(self) -> None: ...
