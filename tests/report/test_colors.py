from __future__ import annotations

import numpy as np

from action100m.report.colors import branch_positions
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
