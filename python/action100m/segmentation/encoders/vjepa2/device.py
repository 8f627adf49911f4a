"""Finds the device, and tells when its memory is full or it fails."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from action100m.device import find_device as find_named
from action100m.inference import EngineStoppedError
from action100m.segmentation.batching import OutOfDeviceMemoryError

_FLOAT8_SINCE = (8, 9)


def find_device(name: str, precision: str) -> torch.device:
    """The device of that name, if it is there and can compute in that precision.

    Raises:
        ValueError: it is not, or it cannot.
    """
    device = find_named(name)
    if precision == "fp8" and (
        device.type != "cuda" or torch.cuda.get_device_capability(device) < _FLOAT8_SINCE
    ):
        raise ValueError(f"fp8 needs an NVIDIA GPU from Ada or Hopper on, not {name!r}: take bf16.")
    return device


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn what PyTorch and the kernels raise into ours; where memory is full, free what is cached.

    Raises:
        OutOfDeviceMemoryError: the memory is full.
        EngineStoppedError: the device failed. After that CUDA refuses all that this process asks.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        # Or the traceback would keep what the failed batch took.
        traceback.clear_frames(error.__traceback__)
        torch.cuda.empty_cache()
        raise OutOfDeviceMemoryError(f"The device's memory is full: {error}") from error
    except torch.AcceleratorError as error:
        raise _stopped(error) from error
    except RuntimeError:  # a library's: cuBLAS, cuDNN, Triton, our kernels
        try:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # raises if it was the device
        except RuntimeError as error:
            raise _stopped(error) from error
        raise


def _stopped(error: RuntimeError) -> EngineStoppedError:
    return EngineStoppedError(f"The device failed: {str(error).splitlines()[0]}.")
