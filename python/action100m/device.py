"""Find the device that a model runs on, and free its memory for the next model."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Args:
        name: the device's name in PyTorch: "cuda", "cuda:1" or "cpu".

    Raises:
        ValueError: the device does not exist, or it is neither a CUDA device nor the CPU.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is not a device: use 'cuda', 'cuda:1' or 'cpu'.") from error
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"Models run on 'cuda' or 'cpu', not on {name!r}.")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(
                f"There is no device {name!r}: PyTorch {torch.__version__} finds {found} CUDA "
                "devices here. Check the driver, or use 'cpu'."
            )
    return device


def release_memory() -> None:
    """Return the device memory of models that are no longer used to the driver.

    The next model may run in another process, as vLLM's do, and can use only free memory.
    """
    gc.collect()  # compiled modules are in reference cycles
    cuda = cuda_in_use()
    if cuda is not None:
        cuda.empty_cache()


def cuda_in_use() -> Any:
    """Return torch.cuda if torch already uses a GPU, else None, without importing torch."""
    # While another thread imports torch, its parts appear one after the other.
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    is_initialized = getattr(cuda, "is_initialized", None)
    return cuda if is_initialized is not None and is_initialized() else None
