"""The protocol of frame encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from action100m.video import FrameBatch


class Encoder(Protocol):
    """Converts sampled frames to embeddings.

    Attributes:
        name: name of the encoder.
        identity: everything that determines its results (version, weights, precision); part of the
            fingerprint of what is computed with it.
        short_side: the frame size that it expects, as `FrameSpec.side`.
        dimension: d, the length of an embedding.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def short_side(self) -> int: ...

    @property
    def dimension(self) -> int: ...

    def load(self) -> None:
        """Load what encoding needs; the attributes are available before."""
        ...

    def encode(self, frames: Iterable[FrameBatch]) -> Iterator[NDArray[np.float32]]:
        """Yield (b, d) float32 rows in frame order, one row per frame.

        Rows may lag behind the frames, and their batches may differ from those of the frames.
        """
        ...
