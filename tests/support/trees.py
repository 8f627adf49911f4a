"""Trees over a random walk: cheap, and shaped like real ones."""

from __future__ import annotations

import numpy as np

from action100m import Tree, cut, ward


def random_tree(n_frames: int, *, seed: int = 0, seconds_per_frame: float = 4 / 30) -> Tree:
    """Return the tree of a random walk of `n_frames` sampled frames."""
    steps = np.random.default_rng(seed).normal(size=(n_frames, 4))
    return cut(ward(np.cumsum(steps, axis=0)), np.arange(n_frames + 1) * seconds_per_frame)
