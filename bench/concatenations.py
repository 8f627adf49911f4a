"""Videos with known cuts: random pieces of real clips, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SIZE = (320, 180)
FRAME_RATE = 25
PIECES = (5, 10)
SECONDS = (2.0, 8.0)

# Clips that hold no hard cut, and the single shots of those that do: (file, start, end) in seconds.
SHOTS = (
    ("asl/again.mkv", 0.0, 2.6),
    ("asl/bird.mkv", 0.0, 2.1),
    ("asl/book.mkv", 0.0, 3.6),
    ("asl/brother.mkv", 0.0, 2.2),
    ("asl/eat.mkv", 0.0, 1.5),
    ("asl/help.mkv", 0.0, 1.9),
    ("decord_flipping_a_pancake.mkv", 0.0, 10.3),
    ("intel_one-by-one-person-detection.mp4", 0.0, 139.0),
    ("mma_test.avi", 0.0, 6.5),
    ("skv_bikes.mp4", 1.2, 3.04),
    ("skv_bikes.mp4", 3.04, 5.48),
    ("skv_bikes.mp4", 5.48, 7.48),
    ("skv_bikes.mp4", 7.48, 9.68),
    ("tc_nasa_13013.mp4", 0.0, 5.0),
    ("tc_nasa_13013.mp4", 6.0, 8.0),
    ("tc_nasa_13013.mp4", 8.1, 13.0),
)


@dataclass(frozen=True)
class Clip:
    """A decoded clip: `times` (n,) seconds, `frames` (n, h, w, 3) RGB at SIZE."""

    times: NDArray[np.float64]
    frames: NDArray[np.uint8]

    def at(self, seconds: float) -> NDArray[np.uint8]:
        """The frame on screen at a time."""
        shown = np.searchsorted(self.times, seconds + 1e-6, side="right") - 1
        return self.frames[max(0, int(shown))]


def decode_clips(videos: Path) -> dict[str, Clip]:
    """Every file of SHOTS, cropped about its centre to the shape of SIZE and scaled."""
    return {name: _decode(videos / name) for name in dict.fromkeys(file for file, _, _ in SHOTS)}


def _decode(path: Path) -> Clip:
    times, frames = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(float(frame.time or 0.0))
            frames.append(_crop_and_scale(frame))
    return Clip(np.asarray(times) - times[0], np.stack(frames))


def _crop_and_scale(frame: av.VideoFrame) -> NDArray[np.uint8]:
    width, height = SIZE
    scale = max(width / frame.width, height / frame.height)
    scaled = frame.reformat(
        width=round(frame.width * scale), height=round(frame.height * scale), format="rgb24"
    ).to_ndarray()
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width]


def concatenate(clips: dict[str, Clip], path: Path, seed: int) -> list[float]:
    """Write one video of random pieces; neighbours come from different files.

    Returns:
        The cut times: the presentation times of the first frames of all pieces but the first.
    """
    random = np.random.default_rng(seed)
    frames, cuts = 0, []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "veryfast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for file, start, length in _pieces(random):
            cuts.append(frames / FRAME_RATE)
            for i in range(round(length * FRAME_RATE)):
                pixels = clips[file].at(start + i / FRAME_RATE)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = frames, Fraction(1, FRAME_RATE)
                container.mux(stream.encode(frame))
                frames += 1
        container.mux(stream.encode(None))
    return cuts[1:]


def _pieces(random: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """(file, start, seconds) of each piece; a shot shorter than the drawn length is taken whole."""
    previous = ""
    for _ in range(random.integers(PIECES[0], PIECES[1] + 1)):
        file, start, end = random.choice(
            np.array([shot for shot in SHOTS if shot[0] != previous], dtype=object)
        )
        length = min(random.uniform(*SECONDS), end - start)
        yield file, random.uniform(start, end - length), length
        previous = file
