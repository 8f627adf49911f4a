"""A small model of windows whose every number can be verified by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action100m.video import FrameBatch

Rows = NDArray[np.float32]


@dataclass
class SmallModel:
    """A WindowModel: a tubelet's vector depends on its frames, its position and the whole window.

    Attributes:
        prepared: frames prepared so far.
        batches: the sizes of the batches so far.
    """

    window: int = 8
    stride: int = 2
    tubelet: int = 2
    batch: int = 3
    name: str = "small"
    identity: str = "small/1"
    dimension: int = 5
    short_side: int = 4
    prepared: int = 0
    batches: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def load(self) -> None:
        pass

    def prepare(self, pixels: NDArray[np.uint8]) -> Rows:
        with self.lock:
            self.prepared += len(pixels)
        return (pixels.reshape(len(pixels), -1) / np.float32(255)).astype(np.float32)

    def empty(self, frames: int, like: Rows) -> Rows:
        return np.full((frames, *like.shape[1:]), np.nan, np.float32)

    def write(self, buffer: Any, place: int, frames: Any) -> None:
        buffer[place : place + len(frames)] = frames

    def embed(self, windows: Sequence[Rows]) -> Rows:
        self.batches.append(len(windows))
        return np.stack([self.embed_one(window) for window in windows])

    def embed_one(self, frames: Rows) -> Rows:
        tubelets = frames.reshape(self.window // self.tubelet, -1).mean(1, dtype=np.float64)
        place = np.arange(1, len(tubelets) + 1)
        phase = tubelets[:, None] * 20 + place[:, None] * np.arange(self.dimension)
        return np.asarray(np.sin(phase) + tubelets.mean(), np.float32)

    def encode_slowly(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return what a WindowedEncoder must give, from the whole video at once, (n, d)."""
        n, window = len(pixels), self.window
        frames = self.prepare(pixels)
        padded = np.concatenate([frames, np.repeat(frames[-1:], max(0, window - n), axis=0)])
        starts = list(range(0, len(padded) - window + 1, self.stride))
        if starts[-1] + window < n:
            starts.append(n - window)
        values: list[list[Any]] = [[] for _ in padded]
        middles = np.arange(0.5, window // self.tubelet) * self.tubelet
        for start in starts:
            columns = self.embed_one(padded[start : start + window]).T
            rows = [np.interp(np.arange(window) + 0.5, middles, column) for column in columns]
            for frame, row in enumerate(np.transpose(rows), start):
                values[frame].append(row)
        return np.asarray([np.mean(rows, axis=0) for rows in values[:n]], np.float32)


def random_video(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise, (n, 2, 2, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (n, 2, 2, 3), np.uint8)


def batches_of(pixels: NDArray[np.uint8], sizes: Sequence[int] = (7,)) -> Iterator[FrameBatch]:
    """Yield the video in batches of these sizes, repeated cyclically."""
    first, turn = 0, 0
    while first < len(pixels):
        part = pixels[first : first + sizes[turn % len(sizes)]]
        numbers = np.arange(first, first + len(part))
        yield FrameBatch(numbers * 4, numbers / 7.5, part)
        first, turn = first + len(part), turn + 1
