"""Frame encoders, behind one protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from action100m.config import SegmentationConfig
from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.encoders.descriptor import DescriptorEncoder

__all__ = ["Encoder", "open_encoder"]


@contextmanager
def open_encoder(config: SegmentationConfig) -> Iterator[Encoder]:
    """The encoder that a configuration names, ready to be shared by threads."""
    yield DescriptorEncoder()
