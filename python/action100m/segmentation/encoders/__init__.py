"""Frame encoders, behind one protocol."""

from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.encoders.descriptor import DescriptorEncoder

__all__ = ["Encoder", "make_encoder"]

_ENCODERS = {"descriptor": DescriptorEncoder}


def make_encoder(name: str) -> Encoder:
    """The encoder that a configuration names.

    Raises:
        ValueError: no encoder has that name.
    """
    if name not in _ENCODERS:
        raise ValueError(f"There is no encoder {name!r}; choose one of {', '.join(_ENCODERS)}.")
    return _ENCODERS[name]()
