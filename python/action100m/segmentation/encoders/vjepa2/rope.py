"""Rotary positions over time, height and width, as tables.

V-JEPA 2 pairs neighbouring numbers of a head (0 with 1, 2 with 3...). Reordering the rows of the
query and key weights so that a pair's first halves come first, then the second halves, leaves
every attention score as it was, and turns the rotation into two products with fixed tables.
"""

from __future__ import annotations

import torch

from action100m.segmentation.encoders.vjepa2.architecture import Architecture

_BASE = 10000.0


def halves_first(head_size: int) -> torch.Tensor:
    """(head_size,) int64: the order of a head's numbers, all even ones, then all odd ones."""
    return torch.arange(head_size).view(-1, 2).t().flatten()


def rotation_tables(architecture: Architecture, tubelets: int) -> torch.Tensor:
    """Cosines and sines for every token, in float32: bfloat16 angles are off by up to 0.03.

    Returns:
        (2, tokens, 1, head_size) float32, in the order of `halves_first`; see `rotate`.
    """
    grid, head_size = architecture.grid, architecture.head_size
    axis = 2 * (head_size // 6)  # numbers for each of time, height and width; the rest stays
    # A pair's two numbers have different angles: the trained models tile the frequencies.
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
        tables: of `rotation_tables`.
    """
    first, second = x.chunk(2, -1)
    return (x * tables[0] + torch.cat((second, first), -1) * tables[1]).to(x.dtype)
