"""The protocol of frame encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from action100m.video.frames import FrameBatch


class Encoder(Protocol):
    """Turns sampled frames into embeddings.

    Attributes:
        name: how a config names it.
        identity: everything that decides its numbers (version, weights, precision): part of the
            fingerprint of what is computed with it.
        short_side: the frame size that it wants, see FrameSpec.
        dimension: d.
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
        """Load what encoding needs; what can be said of an encoder is known before."""
        ...

    def encode(self, frames: Iterable[FrameBatch]) -> Iterator[NDArray[np.float32]]:
        """Yield (b, d) float32 rows in frame order, one row for every frame that came in.

        Rows may lag behind the frames, and need not come in the same batches.
        """
        ...
