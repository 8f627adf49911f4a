"""Find the device, and translate its errors."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from action100m.device import find_device as find_named
from action100m.inference import EngineStoppedError
from action100m.segmentation.batching import OutOfDeviceMemoryError
from action100m.text import first_line

_FLOAT8_SINCE = (8, 9)


def find_device(name: str, precision: str) -> torch.device:
    """Return the device with this name, after checking that it supports this precision.

    Raises:
        ValueError: the device does not exist or does not support the precision.
    """
    device = find_named(name)
    if precision == "fp8" and (
        device.type != "cuda" or torch.cuda.get_device_capability(device) < _FLOAT8_SINCE
    ):
        raise ValueError(f"fp8 needs an NVIDIA GPU (Ada, Hopper or later), not {name!r}: use bf16.")
    return device


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Translate errors of PyTorch and the kernels; if memory is full, also free cached memory.

    Raises:
        OutOfDeviceMemoryError: the memory is full.
        EngineStoppedError: the device failed; CUDA then rejects all later calls of this process.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _full(error) from error
    except torch.AcceleratorError as error:
        if "out of memory" in str(error):  # not for a tensor, but for a kernel, a library, a graph
            raise _full(error) from error
        raise _stopped(error) from error
    except RuntimeError:  # from a library: cuBLAS, cuDNN, Triton, our kernels
        try:
            if device.type == "cuda" and torch.cuda.is_initialized():
                torch.cuda.synchronize(device)  # raises if the device failed
        except RuntimeError as error:
            raise _stopped(error) from error
        raise


def _full(error: Exception) -> OutOfDeviceMemoryError:
    # Otherwise the traceback would keep the memory of the failed batch.
    traceback.clear_frames(error.__traceback__)
    torch.cuda.empty_cache()
    return OutOfDeviceMemoryError(f"The device's memory is full: {error}")


def _stopped(error: RuntimeError) -> EngineStoppedError:
    return EngineStoppedError(f"The device failed: {first_line(error)}")
