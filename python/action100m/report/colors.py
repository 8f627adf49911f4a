"""Colours of text, and of branches: segments that are close in the tree have similar ones."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from action100m.tree import Tree

INK, FAINT = "#22252b", "#757b86"

# Lightness increases along the map, so its ends differ with any form of colour blindness.
BRANCHES = LinearSegmentedColormap.from_list(
    "branches",
    ["#44408f", "#3a5fa8", "#2f7fb0", "#2f9aa6", "#4bb091", "#84c07c", "#bfc96f", "#efc877"],
)


def ink_on(color: ColorType) -> str:
    """Return the colour in which text can be read on another colour."""
    red, green, blue = to_rgb(color)
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.52 else INK


def palette(n: int) -> list[str]:
    """Return `n` colours along the map, as #rrggbb."""
    return [to_hex(color) for color in BRANCHES(np.linspace(0, 1, n))]


def branch_positions(tree: Tree) -> NDArray[np.float64]:
    """Return the (m,) positions of segments on the colour map, 0 to 1.

    Every segment has an interval of the map, which is divided among its children by the square
    root of their durations; a segment's position is the middle of its interval.
    """
    low, high = np.zeros(len(tree)), np.ones(len(tree))
    duration = np.sqrt(tree.duration)
    for parent, group in groupby(range(1, len(tree)), key=tree.parent.tolist().__getitem__):
        rows = list(group)
        shares = np.concatenate([[0], np.cumsum(duration[rows])]) / duration[rows].sum()
        stretch = high[parent] - low[parent]
        low[rows] = low[parent] + stretch * shares[:-1]
        high[rows] = low[parent] + stretch * shares[1:]
    return (low + high) / 2
