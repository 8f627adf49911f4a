"""Finds the device that a model is to run on."""

from __future__ import annotations

import torch


def find_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: as PyTorch names it: "cuda", "cuda:1" or "cpu".

    Raises:
        ValueError: it is not here, or nothing of ours runs on its kind.
    """
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
