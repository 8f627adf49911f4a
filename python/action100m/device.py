"""Finds the device that a model is to run on, and clears it for the next model."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: as PyTorch names it: "cuda", "cuda:1" or "cpu".

    Raises:
        ValueError: it is not here, or nothing of ours runs on its kind.
    """
    import torch  # noqa: PLC0415  optional

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no device: take 'cuda', 'cuda:1' or 'cpu'.") from error
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"Models run on 'cuda' or 'cpu', not on {name!r}.")
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(
                f"There is no device {name!r}: PyTorch {torch.__version__} finds {found} CUDA "
                "devices here. Check the driver, or ask for 'cpu'."
            )
    return device


def release_memory() -> None:
    """Free what models that are no longer used hold of this process's devices.

    The next one may run in a process of its own, as vLLM's do, and finds only what is free.
    """
    gc.collect()  # compiled modules are in reference cycles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
