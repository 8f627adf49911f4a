"""Frame encoders with a common protocol."""

from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.encoders.choice import (
    build_tensorrt_engine,
    load_encoder,
    open_encoder,
    pin,
)

__all__ = ["Encoder", "build_tensorrt_engine", "load_encoder", "open_encoder", "pin"]
