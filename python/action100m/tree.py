"""Dendrograms of frames and trees of segments, as flat arrays on top of the compiled core."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from action100m import _core

MIN_DURATION = 0.5
ABSORB_ABOVE = 60.0


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """The merges of n frames, numbered as in scikit-learn.

    Attributes:
        children: (n-1, 2) int64; merge i joins these two nodes, lower id first, into node n+i.
            Ids below n are frames.
        heights: (n-1,) float64; Ward distance of each merge. Not monotone: the chain constraint
            allows inversions.
    """

    children: NDArray[np.int64]
    heights: NDArray[np.float64]

    def __post_init__(self) -> None:
        merges = len(self.heights)
        if self.children.shape != (merges, 2) or self.children.dtype != np.int64:
            raise ValueError(
                f"{merges} merges need children of shape ({merges}, 2) and int64, not "
                f"{self.children.shape} and {self.children.dtype}."
            )

    def __repr__(self) -> str:
        return f"Dendrogram({self.n_frames:,} frames)"

    @property
    def n_frames(self) -> int:
        """The number of frames, n."""
        return len(self.heights) + 1

    def first_frames(self) -> NDArray[np.int64]:
        """Return the first frame of every node, (2n-1,) int64."""
        return _core.first_frames(np.ascontiguousarray(self.children))

    def boundaries(self, k: int) -> NDArray[np.int64]:
        """Return the k boundaries that remain when the last k merges are undone.

        Args:
            k: number of merges to undo, 0 to n-1.

        Returns:
            (k,) int64, increasing: the first frame after each boundary.
        """
        if not 0 <= k < self.n_frames:
            raise ValueError(
                f"Cannot undo {k} merges: k must be between 0 and {self.n_frames - 1}."
            )
        first = self.first_frames()
        undone = self.children[self.n_frames - 1 - k :]
        return np.sort(np.maximum(first[undone[:, 0]], first[undone[:, 1]]))


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree of segments as flat columns, in published order (by level, then by start).

    Attributes:
        start, end: (m,) float64 seconds, unrounded.
        parent: (m,) int64 row of the parent; -1 for the root, which is row 0.
        level: (m,) int64; the root is level 0.
        absorbed: number of short segments that were absorbed by a neighbour (see `cut`).
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    parent: NDArray[np.int64]
    level: NDArray[np.int64]
    absorbed: int = field(default=0)

    def __len__(self) -> int:
        return len(self.start)

    def __repr__(self) -> str:
        span = f"{self.start[0]:.2f}-{self.end[0]:.2f} s" if len(self) else "empty"
        return f"Tree({len(self):,} segments, {span})"

    @property
    def duration(self) -> NDArray[np.float64]:
        """Durations of the segments, (m,) float64 seconds."""
        return self.end - self.start

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """(m,) bool: True for segments without children."""
        leaf = np.ones(len(self), dtype=bool)
        leaf[self.parent[1:]] = False
        return leaf

    @property
    def leaves(self) -> NDArray[np.int64]:
        """Rows of the leaves in time order, (k,) int64; the leaves tile the video."""
        return self._by_time(self.is_leaf)

    @property
    def depth(self) -> int:
        """The deepest level."""
        return int(self.level.max())

    def children(self, row: int) -> NDArray[np.int64]:
        """Return the rows of a segment's children in time order, (0,) or (2,) int64."""
        return np.flatnonzero(self.parent == self._row(row))

    def path(self, row: int) -> NDArray[np.int64]:
        """Return the rows from the root down to a segment, both included, (level+1,) int64."""
        rows = [self._row(row)]
        while self.parent[rows[-1]] >= 0:
            rows.append(int(self.parent[rows[-1]]))
        return np.array(rows[::-1])

    def descendants(self, row: int) -> NDArray[np.int64]:
        """Return the rows below a segment, depth first, parents before children, (k,) int64."""
        inside = np.zeros(len(self), dtype=bool)
        inside[self._row(row)] = True
        for level in range(int(self.level[row]) + 1, self.depth + 1):
            rows = np.flatnonzero(self.level == level)
            inside[rows] = inside[self.parent[rows]]
        inside[row] = False
        rows = np.flatnonzero(inside)
        return rows[np.lexsort((self.level[rows], self.start[rows]))]

    def at_level(self, level: int) -> NDArray[np.int64]:
        """Return the rows of the segments that tile the video at a level of the tree, (k,) int64.

        These are the segments of that level and the leaves above it, in time order.
        """
        if level < 0:
            raise ValueError(f"Levels begin at 0; there is no level {level}.")
        return self._by_time((self.level == level) | (self.is_leaf & (self.level < level)))

    @overload
    def at(self, times: float, level: int | None = None) -> np.int64: ...
    @overload
    def at(self, times: NDArray[np.float64], level: int | None = None) -> NDArray[np.int64]: ...
    def at(
        self, times: float | NDArray[np.float64], level: int | None = None
    ) -> np.int64 | NDArray[np.int64]:
        """Return the row of the segment at each time: a leaf, or a segment of the cut at a level.

        A time outside the video belongs to the nearest segment; a boundary to the later one.

        Args:
            times: one time or an array of times, in seconds.
            level: level of the cut, see `at_level`; None: the leaves.

        Returns:
            int64, of the shape of `times`.

        Raises:
            ValueError: a time is NaN.
        """
        if np.isnan(times).any():
            raise ValueError("A time is NaN.")
        rows = self.leaves if level is None else self.at_level(level)
        found = np.searchsorted(self.start[rows], times, side="right") - 1
        held: np.int64 | NDArray[np.int64] = rows[np.maximum(found, 0)]
        return held

    def _by_time(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(self.start[rows], kind="stable")]

    def _row(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"There is no segment {row}; the tree has {len(self)}.")
        return row


def ward(X: ArrayLike) -> Dendrogram:
    """Cluster frames by exact Ward linkage in which only temporal neighbours may merge.

    The result equals scikit-learn's ``AgglomerativeClustering(linkage="ward")`` with a chain as
    connectivity: same ``children_``, heights to 1e-12 relative, equal costs in the same order.
    Equal costs that differ by rounding in scikit-learn are equal here. Paper section:
    hierarchical segmentation (arXiv 2601.10592); linkage after Ward (1963).

    Args:
        X: (n, d) float32 or float64, one row per frame in time order, n >= 1, d >= 1. Read in place
            if C-contiguous. Sums are taken in float64 either way.

    Raises:
        TypeError: X is neither float32 nor float64.
        ValueError: X is not two-dimensional, is empty, or holds NaN or infinity.
    """
    rows = np.asarray(X)
    if rows.dtype not in (np.float32, np.float64):
        raise TypeError(f"Embeddings must be float32 or float64, not {rows.dtype}.")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"Embeddings must have shape (n, d) with n, d >= 1, not {rows.shape}.")
    children, heights = _core.ward(np.ascontiguousarray(rows))
    return Dendrogram(children, heights)


def cut(
    dendrogram: Dendrogram,
    edges: ArrayLike,
    min_duration: float = MIN_DURATION,
    absorb_above: float = ABSORB_ABOVE,
) -> Tree:
    """Cut a dendrogram into a binary tree of segments, by duration.

    From the root down, a split is kept only if both sides last at least `min_duration`; otherwise
    the node is a leaf. If that would leave a leaf longer than `absorb_above`, the short side is
    absorbed by its neighbour and the longer side's own split is used instead.

    Args:
        dendrogram: merges of n frames.
        edges: (n+1,) seconds, strictly increasing; frame i lasts from ``edges[i]`` to
            ``edges[i+1]``.
        min_duration: seconds, >= 0.
        absorb_above: seconds.

    Raises:
        ValueError: `edges` has the wrong shape or does not increase, a duration is negative or
            NaN, or `dendrogram` is not a valid dendrogram.
    """
    times = np.ascontiguousarray(edges, dtype=np.float64)
    if times.shape != (dendrogram.n_frames + 1,):
        raise ValueError(
            f"A dendrogram of {dendrogram.n_frames} frames needs {dendrogram.n_frames + 1} edges, "
            f"not an array of shape {times.shape}."
        )
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise ValueError("Edges must be finite and strictly increasing.")
    for name, seconds in (("min_duration", min_duration), ("absorb_above", absorb_above)):
        if not seconds >= 0:
            raise ValueError(f"{name} must be at least 0 seconds, not {seconds}.")
    return Tree(
        *_core.cut(np.ascontiguousarray(dendrogram.children), times, min_duration, absorb_above)
    )
