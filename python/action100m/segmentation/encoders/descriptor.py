"""The built-in encoder: a hand-made descriptor of edges and colours, with no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from action100m import _core
from action100m.trace import span
from action100m.video.frames import FrameBatch, check_pixels


class DescriptorEncoder:
    """Describes every frame by itself: on a grid of 8 x 12 cells, where edges point and the colour.

    Scene cuts are far apart in it, then changes of what stands where; noise, brightness and small
    shakes are near. Same bits on every machine, however the frames are batched.
    """

    name = "descriptor"
    identity = "descriptor/1"  # raise with every change of its numbers
    short_side = 96
    dimension = _core.DESCRIPTOR_DIMENSION

    def load(self) -> None:
        """There is nothing to load."""

    def encode(self, frames: Iterable[FrameBatch]) -> Iterator[NDArray[np.float32]]:
        """Yield (b, 672) float32 for every batch, see `describe`."""
        for batch in frames:
            with span("describe", frames=len(batch.times)):
                rows = describe(batch.pixels)
            yield rows


def describe(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe frames, each by itself.

    Args:
        pixels: (b, h, w, 3) uint8 RGB, h, w >= 1. Read in place if C-contiguous.

    Returns:
        (b, 672) float32: for each of 8 x 12 cells (12 x 8 where h > w), row by row, the square
        roots of the shares of edges that brighten to the right, left, down and up, then mean luma,
        red-blue and green-magenta. Meant for squared Euclidean distances.

    Raises:
        TypeError: pixels are not uint8.
        ValueError: pixels have another shape.
    """
    check_pixels(pixels)
    return _core.describe(np.ascontiguousarray(pixels))
