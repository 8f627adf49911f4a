"""Linear layers in 8-bit floating point, with one scale per row."""

from __future__ import annotations

import torch
from torch import nn

_TYPE = torch.float8_e4m3fn
_LARGEST = 448.0  # of e4m3
_LAYERS = ("qkv", "proj", "fc1", "fc2")


def quantise_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale every row to the full range of float8.

    Args:
        x: (m, k).

    Returns:
        (m, k) float8_e4m3fn and (m, 1) float32 scales, whose product approximates x.
    """
    scale = x.abs().amax(1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (x / scale).clamp(-_LARGEST, _LARGEST).to(_TYPE), scale


class Float8Linear(nn.Module):
    """x W^T + b in bfloat16, with the product in float8: W is quantised once, x at every call.

    Args:
        linear: a bfloat16 layer whose sizes are multiples of 16.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantise_rows(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t().contiguous())
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., k) bfloat16 to (..., n) bfloat16."""
        rows, scale = quantise_rows(x.flatten(0, -2))
        product = torch._scaled_mm(
            rows,
            self.weight.t(),
            scale_a=scale,
            scale_b=self.scale,
            bias=self.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return product.unflatten(0, x.shape[:-1])


def use_float8(block: nn.Module) -> None:
    """Replace the linear layers of a transformer block by float8 layers.

    Raises:
        ValueError: a layer's sizes are not multiples of 16.
    """
    for name in _LAYERS:
        linear = getattr(block, name)
        if linear.in_features % 16 or linear.out_features % 16:
            raise ValueError(
                f"fp8 needs layers whose sizes are multiples of 16, and {name} is "
                f"{linear.in_features} x {linear.out_features}: use bf16."
            )
        setattr(block, name, Float8Linear(linear))
