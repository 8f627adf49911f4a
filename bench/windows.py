"""Measure the overhead and peak memory of the windowing layer, with a model of 20 ms per window.

Windows have 64 frames of 384 x 384 x 3 uint8, with a stride of 8 frames; vectors have 1,408
dimensions. `ratio` is wall-clock time / time in the model, for the worse of one video and four at
once; the limit is 1.02. `nominal` divides by windows x 20 ms instead: on a busy machine the mock
model sleeps longer than asked. Peak memory is the increase in a separate process, for a video and
for one ten times as long.
"""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from action100m.segmentation.windows import WindowedEncoder
from action100m.video import FrameBatch
from harness import finish, parse_arguments, print_table

_SECONDS, _SIDE, _FRAMES_A_BATCH, _LIMIT = 0.02, 384, 16, 1.02


@dataclass
class SleepingModel:
    """A mock WindowModel that sleeps and computes nothing."""

    seconds: float = _SECONDS
    window: int = 64
    stride: int = 8
    tubelet: int = 2
    dimension: int = 1408
    short_side: int = _SIDE
    batch: int = 8
    name: str = "sleeping"
    identity: str = "sleeping/1"
    windows: int = 0
    spent: float = 0.0

    def load(self) -> None:
        """Do nothing: there is nothing to load."""

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels

    def empty(self, frames: int, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.empty((frames, *like.shape[1:]), np.uint8)

    def write(self, buffer: NDArray[np.uint8], place: int, frames: NDArray[np.uint8]) -> None:
        buffer[place : place + len(frames)] = frames

    def embed(self, windows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        start = time.perf_counter()
        time.sleep(len(windows) * self.seconds)
        vectors = np.ones((len(windows), self.window // self.tubelet, self.dimension), np.float32)
        self.spent += time.perf_counter() - start
        self.windows += len(windows)
        return vectors


def video(frames: int) -> Iterator[FrameBatch]:
    """Yield batches of one black frame, so that making frames costs nothing."""
    pixels = np.zeros((_FRAMES_A_BATCH, _SIDE, _SIDE, 3), np.uint8)
    for first in range(0, frames, _FRAMES_A_BATCH):
        index = np.arange(first, min(first + _FRAMES_A_BATCH, frames))
        yield FrameBatch(index * 4, index / 7.5, pixels[: len(index)])


def encode(encoder: WindowedEncoder, frames: int) -> None:
    """Encode one video without keeping its rows."""
    rows = sum(len(rows) for rows in encoder.encode(video(frames)))
    if rows != frames:
        raise SystemExit(f"The encoder returned {rows} rows for {frames} frames.")


def overhead(videos: int, frames: int) -> tuple[float, float]:
    """Return the wall-clock time / the time in the model, and / 20 ms per window."""
    model = SleepingModel()
    with WindowedEncoder(model) as encoder:
        threads = [threading.Thread(target=encode, args=(encoder, frames)) for _ in range(videos)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    return seconds / model.spent, seconds / (model.windows * _SECONDS)


class WaitingModel(SleepingModel):
    """Embeds a batch only once all windows that can be in progress are: memory is at its peak."""

    def __init__(self, frames: int) -> None:
        super().__init__(seconds=0)
        self.frames = frames
        self.prepared = 0

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.prepared += len(pixels)
        return pixels

    def embed(self, windows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        last = self.windows + 2 * self.batch - 1
        while self.prepared < min(self.frames, last * self.stride + self.window):
            time.sleep(0.0005)
        return super().embed(windows)


def _peak_mebibytes() -> float:
    # Not getrusage: its peak of a child starts with the parent's peak.
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def _peak_in_child(frames: int) -> float:
    before = _peak_mebibytes()
    with WindowedEncoder(WaitingModel(frames)) as encoder:
        encode(encoder, frames)
    return _peak_mebibytes() - before


def peak(frames: int) -> float:
    """Return the peak MiB beyond what the imports take."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_in_child, (frames,))


def main() -> None:
    """Measure and print."""
    full = parse_arguments(__doc__).full
    frames, repeats = (27_000, 5) if full else (2_000, 3)
    rows: list[tuple[float, ...]] = []
    for videos in (1, 4):
        runs = [overhead(videos, frames // videos) for _ in range(repeats)]
        ratios = [ratio for ratio, _ in runs]
        rows.append((videos, median(ratios), min(ratios), max(ratios), median(n for _, n in runs)))
    print_table(["videos at once", "wall / model", "least", "most", "nominal"], rows)
    _, worst, _, _, nominal = max(rows, key=lambda row: row[1])
    peaks = {count: peak(count) for count in (1_000, 10_000)}
    print_table(["frames", "peak, MiB"], [[*item] for item in peaks.items()])
    finish(
        "windows",
        ours=worst,
        rival=_LIMIT,
        ratio=worst,
        unit="wall-clock time / time in the model",
        nominal=nominal,
        peak_mib=peaks,
        peak_growth=peaks[10_000] / peaks[1_000],
    )


if __name__ == "__main__":
    main()
