"""Collect a few small pictures of a video while its frames are decoded."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action100m.video import FrameBatch

_MOST = 32
_SHORT_SIDE = 72
_QUALITY = 70


class Thumbnail(NamedTuple):
    """A small picture of the video at one time.

    Attributes:
        seconds: time in the video.
        jpeg: the encoded picture.
    """

    seconds: float
    jpeg: bytes


class Filmstrip:
    """Keeps between 16 and 32 evenly spaced frames of a stream of unknown length.

    Memory does not grow with the video: when the filmstrip is full, every second frame is dropped,
    and from then on only half as many frames are kept.
    """

    def __init__(self) -> None:
        self._frames: list[tuple[float, NDArray[np.uint8]]] = []
        self._step = 1
        self._seen = 0

    def add(self, batch: FrameBatch) -> None:
        """Consider the next frames."""
        for time, pixels in zip(batch.times.tolist(), batch.pixels, strict=True):
            if self._seen % self._step == 0:
                self._take(time, pixels)
            self._seen += 1

    def _take(self, time: float, pixels: NDArray[np.uint8]) -> None:
        if len(self._frames) == _MOST:
            del self._frames[1::2]
            self._step *= 2
            if self._seen % self._step:
                return
        self._frames.append((time, pixels.copy()))

    def thumbnails(self) -> list[Thumbnail]:
        """Return the pictures in time order."""
        return [Thumbnail(time, _jpeg(pixels)) for time, pixels in self._frames]


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels)
    scale = _SHORT_SIDE / min(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).save(
        buffer, "JPEG", quality=_QUALITY
    )
    return buffer.getvalue()
