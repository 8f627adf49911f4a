"""The built-in encoder: a hand-crafted descriptor of edges and colours, without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from action100m import _core
from action100m.trace import span
from action100m.video import FrameBatch, check_pixels


class DescriptorEncoder:
    """Describes each frame by the edge directions and colour in each cell of an 8 x 12 grid.

    Distances are largest across scene cuts, smaller if the layout changes, and small for noise,
    brightness and camera shake. Results are the same bits on every machine and for any batches.
    """

    name = "descriptor"
    identity = "descriptor/1"  # increase the number whenever results change
    short_side = 96
    dimension = _core.DESCRIPTOR_DIMENSION

    def load(self) -> None:
        """Do nothing: there is nothing to load."""

    def encode(self, frames: Iterable[FrameBatch]) -> Iterator[NDArray[np.float32]]:
        """Yield (b, 672) float32 for every batch; see `describe`."""
        for batch in frames:
            with span("describe", frames=len(batch.times)):
                rows = describe(batch.pixels)
            yield rows


def describe(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the descriptor of each frame.

    Args:
        pixels: (b, h, w, 3) uint8 RGB, h, w >= 1. Read in place if C-contiguous.

    Returns:
        (b, 672) float32: for each of 8 x 12 cells (12 x 8 if h > w), row by row, the square
        roots of the shares of edges that brighten to the right, left, down and up, then mean luma,
        red-blue and green-magenta. Intended for squared Euclidean distances.

    Raises:
        TypeError: pixels are not uint8.
        ValueError: pixels have another shape.
    """
    check_pixels(pixels)
    return _core.describe(np.ascontiguousarray(pixels))
