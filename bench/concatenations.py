"""Videos with known cuts: concatenations of random pieces of real clips."""

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


@dataclass(frozen=True)
class Shot:
    """Seconds `start` to `end` of a file, which show one scene without a cut."""

    file: str
    scene: str
    start: float
    end: float


# Shots without a cut. Takes of one person in one room are one scene: a change between them is not a
# coarse cut.
SHOTS = (
    Shot("asl/again.mkv", "signer 1", 0.0, 2.6),
    Shot("asl/bird.mkv", "signer 2", 0.0, 2.1),
    Shot("asl/book.mkv", "signer 3", 0.0, 3.6),
    Shot("asl/brother.mkv", "signer 1", 0.0, 2.2),
    Shot("asl/eat.mkv", "signer 4", 0.0, 1.5),
    Shot("asl/help.mkv", "signer 1", 0.0, 1.9),
    Shot("decord_flipping_a_pancake.mkv", "kitchen", 0.0, 10.3),
    Shot("intel_one-by-one-person-detection.mp4", "room", 0.0, 60.0),
    Shot("mma_test.avi", "makeup", 0.0, 6.5),
    Shot("skv_bikes.mp4", "street", 1.2, 3.04),
    Shot("skv_bikes.mp4", "street", 3.04, 5.48),
    Shot("skv_bikes.mp4", "street", 5.48, 7.48),
    Shot("skv_bikes.mp4", "street", 7.48, 9.68),
    Shot("tc_nasa_13013.mp4", "telescope", 0.0, 5.0),
    Shot("tc_nasa_13013.mp4", "telescope", 6.0, 8.0),
    Shot("tc_nasa_13013.mp4", "telescope", 8.1, 13.0),
)


@dataclass(frozen=True)
class Clip:
    """A decoded clip: `times` (n,) in seconds, `frames` (n, 3h/2, w) in YUV 4:2:0 at SIZE."""

    times: NDArray[np.float64]
    frames: NDArray[np.uint8]

    def at(self, seconds: float) -> NDArray[np.uint8]:
        """Return the frame shown at a time."""
        shown = np.searchsorted(self.times, seconds + 1e-6, side="right") - 1
        return self.frames[max(0, int(shown))]


def decode_clips(videos: Path) -> dict[str, Clip]:
    """Decode every file of SHOTS up to the end of its last shot, cropped and scaled to SIZE."""
    ends = {shot.file: shot.end for shot in SHOTS}
    return {file: _decode(videos / file, end) for file, end in ends.items()}


def _decode(path: Path, end: float) -> Clip:
    times, frames = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time > end:
                break
            times.append(frame.time)
            frames.append(_crop_and_scale(frame))
    return Clip(np.asarray(times), np.stack(frames))


def _crop_and_scale(frame: av.VideoFrame) -> NDArray[np.uint8]:
    width, height = SIZE
    scale = max(width / frame.width, height / frame.height)
    scaled = frame.reformat(
        width=round(frame.width * scale), height=round(frame.height * scale), format="rgb24"
    ).to_ndarray()
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    cropped = np.ascontiguousarray(scaled[top : top + height, left : left + width])
    return av.VideoFrame.from_ndarray(cropped, format="rgb24").to_ndarray(format="yuv420p")


def concatenate(clips: dict[str, Clip], path: Path, seed: int) -> list[float]:
    """Write one video of random pieces, in which neighbouring pieces show different scenes.

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
                frame = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
                frame.pts, frame.time_base = frames, Fraction(1, FRAME_RATE)
                container.mux(stream.encode(frame))
                frames += 1
        container.mux(stream.encode(None))
    return cuts[1:]


def _pieces(random: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Yield (file, start, seconds) of each piece; shots shorter than the drawn length are whole."""
    scene = ""
    for _ in range(random.integers(PIECES[0], PIECES[1] + 1)):
        others = [shot for shot in SHOTS if shot.scene != scene]
        shot = others[random.integers(len(others))]
        length = min(random.uniform(*SECONDS), shot.end - shot.start)
        yield shot.file, random.uniform(shot.start, shot.end - length), length
        scene = shot.scene
