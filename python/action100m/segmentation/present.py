"""Present the tree of a single video as text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from action100m.text import counted
from action100m.tree import Tree


def as_lines(tree: Tree) -> Iterator[str]:
    """Yield the tree depth first, one line per segment: start, end, duration, place in the tree."""
    leaf = tree.is_leaf
    for row in np.lexsort((tree.level, tree.start)).tolist():
        times = f"{_moment(tree.start[row])}  {_moment(tree.end[row])}  {tree.duration[row]:9.2f} s"
        yield f"{times}  {'  ' * int(tree.level[row])}{'─' if leaf[row] else '┬'}"
    leaves = counted(int(leaf.sum()), "leaf")
    yield f"{counted(len(tree), 'segment')}, {leaves}, depth {int(tree.level.max())}"


def _moment(seconds: float) -> str:
    """Format seconds to the hundredth, the precision of the dataset."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 100:05.2f}"
