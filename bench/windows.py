"""What the windowing layer costs beside a model that takes 20 ms a window, and its peak memory.

Windows of 64 frames, 384 x 384 x 3 uint8, every 8 frames; vectors of 1,408 dimensions. `ratio` is
the wall-clock time of a whole video / (windows x 20 ms); the limit is 1.02. Peak memory is that of a
process that does nothing else, on top of what it held before, of a video and of one 10 times longer.
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
from action100m.video.frames import FrameBatch
from harness import finish, parse_arguments, print_table

_SECONDS, _SIDE, _FRAMES_A_BATCH, _LIMIT = 0.02, 384, 16, 1.02


@dataclass
class SleepingModel:
    """A WindowModel that takes its time and nothing else."""

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

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return pixels

    def empty(self, frames: int, like: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.empty((frames, *like.shape[1:]), np.uint8)

    def embed(self, windows: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.windows += len(windows)
        time.sleep(len(windows) * self.seconds)
        return np.ones((len(windows), self.window // self.tubelet, self.dimension), np.float32)


def video(frames: int) -> Iterator[FrameBatch]:
    """A still picture: making frames must cost nothing here."""
    pixels = np.zeros((_FRAMES_A_BATCH, _SIDE, _SIDE, 3), np.uint8)
    for first in range(0, frames, _FRAMES_A_BATCH):
        index = np.arange(first, min(first + _FRAMES_A_BATCH, frames))
        yield FrameBatch(index * 4, index / 7.5, pixels[: len(index)])


def encode(encoder: WindowedEncoder, frames: int) -> None:
    """Encode one video, keeping no rows."""
    rows = sum(len(rows) for rows in encoder.encode(video(frames)))
    if rows != frames:
        raise SystemExit(f"{rows} rows came out for {frames} frames.")


def overhead(videos: int, frames: int) -> tuple[int, float]:
    """Windows, and wall-clock seconds / the model's own, of so many videos at once."""
    model = SleepingModel()
    with WindowedEncoder(model) as encoder:
        threads = [threading.Thread(target=encode, args=(encoder, frames)) for _ in range(videos)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
    return model.windows, seconds / (model.windows * _SECONDS)


def _peak_mebibytes() -> float:
    # Not getrusage: there a child begins with its parent's peak.
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def _peak_in_child(frames: int) -> float:
    before = _peak_mebibytes()
    with WindowedEncoder(SleepingModel(seconds=0.005)) as encoder:
        encode(encoder, frames)
    return _peak_mebibytes() - before


def peak(frames: int) -> float:
    """MiB on top of the imports."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_in_child, (frames,))


def main() -> None:
    """Measure, print."""
    full = parse_arguments(__doc__).full
    frames, repeats = (27_000, 5) if full else (1_600, 3)
    rows: list[list[object]] = []
    worst = 0.0
    for videos in (1, 4):
        runs = [overhead(videos, frames // videos) for _ in range(repeats)]
        ratio = median(ratio for _, ratio in runs)
        rows.append([videos, runs[0][0], ratio, min(r for _, r in runs), max(r for _, r in runs)])
        worst = max(worst, ratio)
    print_table(["videos at once", "windows", "ours / model's own", "least", "most"], rows)
    short, long = peak(1_000), peak(10_000)
    print_table(["frames", "peak, MiB"], [[1_000, short], [10_000, long]])
    finish(
        "windows",
        ours=worst,
        rival=_LIMIT,
        ratio=worst,
        unit="wall-clock time / the model's own",
        peak_mib={"1000 frames": short, "10000 frames": long},
        peak_growth=long / short,
    )


if __name__ == "__main__":
    main()
