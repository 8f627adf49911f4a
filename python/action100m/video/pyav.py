"""Decode a video in this process with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action100m.video.frames import DecodeReport, FrameBatch, FrameSpec, VideoInfo
from action100m.video.geometry import Scaler
from action100m.video.pictures import Pictures

_BATCH_FRAMES = 32
_BATCH_BYTES = 1 << 25


class PyAVStream:
    """One pass over a video in this process: a `FrameStream`.

    A malicious file can hang or crash the process that reads it, and FFmpeg has one log for the
    whole process: use one instance at a time, in a separate process (as `Decoder` does).
    """

    def __init__(
        self,
        path: Path,
        spec: FrameSpec,
        *,
        threads: int = 1,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file and decode its first frame.

        Args:
            path: a local file.
            spec: which frames to sample, and their size.
            threads: number of decoder threads; see `Decoder.open`.
            on_progress: called for every decoded packet.

        Raises:
            VideoError: the file is not a video that this machine can decode.
        """
        self._spec = spec
        self._report: DecodeReport | None = None
        with ExitStack() as resources:
            pictures = Pictures(path, threads=threads, on_progress=on_progress)
            self._pictures = resources.enter_context(pictures)
            assert pictures.first is not None
            self._scaler = Scaler(pictures.first, pictures.stream.sample_aspect_ratio, spec)
            self._resources = resources.pop_all()

    @property
    def info(self) -> VideoInfo:
        return self._pictures.info

    @property
    def report(self) -> DecodeReport:
        if self._report is None:
            raise RuntimeError("The report is complete once all frames have been read.")
        return self._report

    def __iter__(self) -> Iterator[FrameBatch]:
        shape = self._scaler.shape
        size = min(_BATCH_FRAMES, max(1, _BATCH_BYTES // int(np.prod(shape))))
        index: list[int] = []
        times: list[float] = []
        pixels = np.empty((size, *shape), np.uint8)
        for number, (time, frame) in enumerate(self._pictures):
            if number % self._spec.stride == 0:
                self._scaler.draw(frame, pixels[len(index)])
                index.append(number)
                times.append(time)
            if len(index) == size:
                yield _batch(index, times, pixels)
                index, times, pixels = [], [], np.empty_like(pixels)
        if index:
            yield _batch(index, times, pixels[: len(index)])
        self._report = self._pictures.report()

    def close(self) -> None:
        self._resources.close()


def _batch(index: list[int], times: list[float], pixels: NDArray[np.uint8]) -> FrameBatch:
    return FrameBatch(np.array(index, np.int64), np.array(times, np.float64), pixels)
