"""Rotary position embeddings over time, height and width, as tables.

V-JEPA 2 pairs neighbouring numbers of a head (0 with 1, 2 with 3...). Reordering the rows of the
query and key weights so that the first numbers of all pairs precede the second ones does not change
any attention score, and turns the rotation into two products with fixed tables.
"""

from __future__ import annotations

import torch

from action100m.segmentation.encoders.vjepa2.architecture import Architecture

_BASE = 10000.0


def halves_first(head_size: int) -> torch.Tensor:
    """Return (head_size,) int64: a head's indices, first all even ones, then all odd ones."""
    return torch.arange(head_size).view(-1, 2).t().flatten()


def rotation_tables(architecture: Architecture, tubelets: int) -> torch.Tensor:
    """Compute cosines and sines for every token, in float32: bfloat16 angles err by up to 0.03.

    Returns:
        (2, tokens, 1, head_size) float32, in the order of `halves_first`; see `rotate`.
    """
    grid, head_size = architecture.grid, architecture.head_size
    axis = 2 * (head_size // 6)  # numbers each for time, height and width; the rest is not rotated
    # The two numbers of a pair have different angles, because the trained models tile frequencies.
    frequencies = _BASE ** -(torch.arange(axis // 2, dtype=torch.float64) / (axis / 2)).repeat(2)
    positions = torch.cartesian_prod(*(torch.arange(side) for side in (tubelets, grid, grid)))
    angles = torch.zeros(len(positions), head_size, dtype=torch.float64)
    angles[:, : 3 * axis] = (positions[:, :, None] * frequencies).flatten(1)
    cosines, sines = angles.cos(), angles.sin()
    sines[:, ::2] *= -1
    tables = torch.stack((cosines, sines))[..., halves_first(head_size)]
    return tables.float().unsqueeze(2)


def rotate(x: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Rotate queries or keys, computing in float32.

    Args:
        x: (b, tokens, heads, head_size), in the order of `halves_first`.
        tables: as returned by `rotation_tables`.
    """
    first, second = x.chunk(2, -1)
    return (x * tables[0] + torch.cat((second, first), -1) * tables[1]).to(x.dtype)
