from __future__ import annotations

import numpy as np

from action100m.report.colors import INK, branch_positions, ink_on, palette
from trees import random_tree


def test_siblings_divide_their_parents_range_in_time_order() -> None:
    tree = random_tree(800)
    positions = branch_positions(tree)
    leaves = np.flatnonzero(tree.is_leaf)
    in_time = leaves[np.argsort(tree.start[leaves])]
    assert (np.diff(positions[in_time]) > 0).all()
    assert positions.min() > 0
    assert positions.max() < 1
    for row in range(1, len(tree)):
        siblings = np.flatnonzero(tree.parent == tree.parent[row])
        assert positions[siblings].min() < positions[tree.parent[row]] < positions[siblings].max()


def test_text_is_light_on_dark_colours_and_dark_on_light_ones() -> None:
    assert [ink_on(color) for color in palette(8)] == ["white"] * 4 + [INK] * 4
