"""Finds the device, and tells when its memory is full."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from action100m.segmentation.batching import OutOfDeviceMemoryError

_FLOAT8_SINCE = (8, 9)


def find_device(name: str, precision: str) -> torch.device:
    """The device of that name, if it is there and can compute in that precision.

    Raises:
        ValueError: it is not, or it cannot.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no device: take 'cuda', 'cuda:1' or 'cpu'.") from error
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"V-JEPA 2 runs on 'cuda' or 'cpu', not on {name!r}.")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(
                f"There is no device {name!r}: PyTorch {torch.__version__} finds {found} CUDA "
                "devices here. Check the driver, or ask for 'cpu'."
            )
    if precision == "fp8" and (
        device.type != "cuda" or torch.cuda.get_device_capability(device) < _FLOAT8_SINCE
    ):
        raise ValueError(f"fp8 needs an NVIDIA GPU from Ada or Hopper on, not {name!r}: take bf16.")
    return device


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn PyTorch's out of memory into ours, with what it cached given back."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # Or the traceback would keep what the failed batch took.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        raise OutOfDeviceMemoryError(f"The device's memory is full: {error}") from error
