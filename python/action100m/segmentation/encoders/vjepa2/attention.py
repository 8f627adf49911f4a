"""The fused attention kernels of a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from action100m.config import Attention
from action100m.extras import is_installed

_MODULES = {"fa3": "flash_attn_interface", "fa4": "flash_attn.cute"}
"""The module that must be installed; PyTorch calls the kernels FA3 and FA4."""


def is_available(attention: Attention) -> bool:
    """Return whether PyTorch brings a kernel, or its package is installed."""
    return attention not in _MODULES or is_installed(_MODULES[attention])


def require_attention(attention: Attention, device: torch.device) -> None:
    """Check that a kernel can be used.

    Raises:
        ValueError: it needs a GPU, a package or a newer PyTorch.
    """
    if attention not in _MODULES:
        return
    if device.type != "cuda":
        raise ValueError(f"attention {attention!r} needs an NVIDIA GPU, not {device}.")
    if not hasattr(torch.nn.attention, "activate_flash_attention_impl"):
        raise ValueError(f"attention {attention!r} needs a newer PyTorch than {torch.__version__}.")
    if not is_available(attention):
        package = f"flash-attn-{attention[-1]}"
        raise ValueError(
            f"attention {attention!r} needs the package {package}, which is not installed."
        )


def use_attention(attention: Attention) -> None:
    """Make PyTorch's FlashAttention backend use a kernel, in the whole process."""
    if attention in _MODULES:
        torch.nn.attention.activate_flash_attention_impl(attention.upper())
    elif getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)() is not None:
        torch.nn.attention.restore_flash_attention_impl()


@contextmanager
def fused_attention(attention: Attention, dtype: torch.dtype) -> Iterator[None]:
    """Compute scaled_dot_product_attention with one kernel only in this block.

    The unfused fallback would need 30 GB of scores per window.
    """
    if dtype == torch.float32:
        backend = SDPBackend.EFFICIENT_ATTENTION  # the only one for this type
    elif attention == "cudnn":
        backend = SDPBackend.CUDNN_ATTENTION
    else:
        backend = SDPBackend.FLASH_ATTENTION
    with sdpa_kernel(backend):
        yield
