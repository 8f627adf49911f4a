"""Arguments of the public functions, and cutting against a slow, independent implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import action100m
from action100m import Dendrogram
from trees import random_tree

Row = tuple[float, float, int, int]


def random_dendrogram(rng: np.random.Generator, n: int) -> Dendrogram:
    """Return a dendrogram in which neighbours merge in any order."""
    chain = list(range(n))
    children = np.empty((n - 1, 2), dtype=np.int64)
    for merge in range(n - 1):
        at = int(rng.integers(len(chain) - 1))
        children[merge] = sorted(chain[at : at + 2])
        chain[at : at + 2] = [n + merge]
    return Dendrogram(children, np.zeros(n - 1))


def staircase(n: int) -> Dendrogram:
    """Return a dendrogram in which each frame joins all frames before it."""
    before = np.array([0, *range(n, 2 * n - 2)])
    return Dendrogram(np.sort(np.stack([before, np.arange(1, n)], axis=1)), np.zeros(n - 1))


def frames_of(dendrogram: Dendrogram) -> list[list[int]]:
    frames = [[i] for i in range(dendrogram.n_frames)]
    for a, b in dendrogram.children.tolist():
        frames.append(sorted(frames[a] + frames[b]))
    return frames


def slow_cut(
    dendrogram: Dendrogram, edges: Sequence[float], min_duration: float, absorb_above: float
) -> tuple[list[Row], int]:
    """Cut by the rule as documented, with sets of frames, level by level."""
    n, frames = dendrogram.n_frames, frames_of(dendrogram)
    absorbed_in_all = 0

    def split(node: int, start: float, end: float) -> list[tuple[int, float, float]]:
        nonlocal absorbed_in_all
        absorbed = 0
        while node >= n:
            left, right = sorted(dendrogram.children[node - n].tolist(), key=lambda c: frames[c])
            middle = edges[frames[right][0]]
            shorter, longer = sorted([(middle - start, left), (end - middle, right)])
            if shorter[0] >= min_duration:
                absorbed_in_all += absorbed
                return [(left, start, middle), (right, middle, end)]
            if end - start <= absorb_above:
                break
            node = longer[1]
            absorbed += 1
        return []

    rows: list[Row] = [(edges[0], edges[-1], -1, 0)]
    nodes = [2 * n - 2]
    for row, node in enumerate(nodes):
        start, end, _, level = rows[row]
        for child, first, last in split(node, start, end):
            nodes.append(child)
            rows.append((first, last, row, level + 1))
    return rows, absorbed_in_all


@st.composite
def timed_dendrograms(draw: st.DrawFn) -> tuple[Dendrogram, NDArray[np.float64]]:
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    intervals = rng.choice([0.05, 0.1, 0.3, 1.0, 4.0], size=n) * rng.uniform(0.9, 1.1, size=n)
    return random_dendrogram(rng, n), np.concatenate([[0.0], np.cumsum(intervals)])


durations = st.sampled_from([0.0, 0.2, 0.5, 2.0])
limits = st.sampled_from([0.0, 1.0, 10.0, 60.0, math.inf])


@given(timed_dendrograms(), durations, limits)
@settings(deadline=None, max_examples=300)
def test_cut_follows_the_rule(
    timed: tuple[Dendrogram, NDArray[np.float64]], min_duration: float, absorb_above: float
) -> None:
    dendrogram, edges = timed
    tree = action100m.cut(dendrogram, edges, min_duration, absorb_above)
    rows, absorbed = slow_cut(dendrogram, edges.tolist(), min_duration, absorb_above)
    columns = (tree.start, tree.end, tree.parent, tree.level)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == rows
    assert tree.absorbed == absorbed


@given(timed_dendrograms(), durations, limits)
@settings(deadline=None, max_examples=200)
def test_trees_are_strictly_binary_and_tiled(
    timed: tuple[Dendrogram, NDArray[np.float64]], min_duration: float, absorb_above: float
) -> None:
    dendrogram, edges = timed
    tree = action100m.cut(dendrogram, edges, min_duration, absorb_above)
    assert (tree.start[0], tree.end[0], tree.parent[0], tree.level[0]) == (0, edges[-1], -1, 0)
    assert (tree.duration[1:] >= min_duration).all()
    order = sorted(range(len(tree)), key=lambda i: (tree.level[i], tree.start[i]))
    assert order == list(range(len(tree)))
    for parent in range(len(tree)):
        children = np.flatnonzero(tree.parent == parent)
        assert tree.is_leaf[parent] == (len(children) == 0)
        if len(children):
            left, right = children
            assert tree.start[left] == tree.start[parent]
            assert tree.end[left] == tree.start[right]
            assert tree.end[right] == tree.end[parent]
            assert tree.level[left] == tree.level[right] == tree.level[parent] + 1


def test_a_stray_frame_does_not_absorb_a_long_segment() -> None:
    """The first frame, black for 0.1 s, differs from all others, which change at 70 s."""
    X = np.repeat([[0.0], [1.0]], [70, 30], axis=0)
    X += 0.01 * np.random.default_rng(0).normal(size=X.shape)
    X[0] = 1e6
    edges = np.array([0.0, *np.arange(0.1, 100.0)])
    assert len(action100m.cut(action100m.ward(X), edges, absorb_above=1000)) == 1
    tree = action100m.cut(action100m.ward(X), edges)
    assert tree.absorbed == 1
    assert tree.end[1] == tree.start[2] == edges[70]


def test_cut_of_a_deep_chain() -> None:
    n = 200_000
    tree = action100m.cut(staircase(n), np.arange(n + 1.0))
    assert len(tree) == 2 * n - 1
    assert tree.level[-1] == n - 1


def test_first_frames_and_boundaries() -> None:
    rng = np.random.default_rng(0)
    dendrogram = random_dendrogram(rng, 40)
    frames = frames_of(dendrogram)
    assert dendrogram.first_frames().tolist() == [node[0] for node in frames]
    for k in (0, 1, 7, 39):
        alive = set(range(2 * 40 - 1 - k)) - set(dendrogram.children[: 39 - k].ravel().tolist())
        assert dendrogram.boundaries(k).tolist() == sorted(frames[i][0] for i in alive)[1:]


def test_one_frame_and_two() -> None:
    one = action100m.ward(np.zeros((1, 3)))
    assert one.children.shape == (0, 2)
    assert one.heights.shape == (0,)
    assert len(action100m.cut(one, [0, 0.1])) == 1
    two = action100m.ward(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert two.children.tolist() == [[0, 1]]
    assert two.heights.tolist() == [5.0]


def test_ward_accepts_any_memory_layout() -> None:
    X = np.random.default_rng(0).normal(size=(50, 12))
    expected = action100m.ward(X[::2, ::3].copy())
    for view in (X[::2, ::3], np.asfortranarray(X[::2, ::3])):
        ours = action100m.ward(view)
        np.testing.assert_array_equal(ours.children, expected.children)
        np.testing.assert_array_equal(ours.heights, expected.heights)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex128, object])
def test_ward_requires_floats(dtype: type) -> None:
    with pytest.raises(TypeError, match="must be float32 or float64"):
        action100m.ward(np.zeros((3, 3), dtype=dtype))


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0), (2, 2, 2)])
def test_ward_requires_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        action100m.ward(np.zeros(shape))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (-math.inf, "infinity")])
@pytest.mark.parametrize("n", [1, 2, 10, 10_000])
def test_ward_names_the_first_bad_row(n: int, value: float, word: str, dtype: type) -> None:
    X = np.zeros((n, 3), dtype=dtype)
    X[n // 2 :, 1] = value
    with pytest.raises(ValueError, match=f"Row {n // 2} of the embeddings holds {word}"):
        action100m.ward(X)


@pytest.mark.parametrize("values", [[1e200, -1e200], [1e308, 1e308, 1e308]])
def test_ward_refuses_values_whose_squares_overflow(values: list[float]) -> None:
    with pytest.raises(ValueError, match="squares overflow"):
        action100m.ward(np.array(values)[:, None])


@pytest.mark.parametrize(
    ("edges", "complaint"),
    [
        ([0, 1, 2], "needs 4 edges"),
        ([[0, 1, 2, 3]], "needs 4 edges"),
        ([0, 1, 1, 2], "strictly increasing"),
        ([0, 1, math.nan, 2], "strictly increasing"),
        ([0, 1, 2, math.inf], "strictly increasing"),
    ],
)
def test_cut_requires_increasing_edges(edges: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        action100m.cut(staircase(3), edges)


@pytest.mark.parametrize("min_duration", [-1.0, math.nan])
def test_cut_requires_a_duration(min_duration: float) -> None:
    with pytest.raises(ValueError, match="min_duration must be at least 0"):
        action100m.cut(staircase(3), [0, 1, 2, 3], min_duration)


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([[0, 99], [1, 2]], "node 99"),
        ([[-1, 0], [1, 2]], "node -1"),
        ([[0, 1], [0, 2]], "node 0"),
        ([[0, 2], [1, 3]], "not neighbours"),
        ([[1, 1], [0, 2]], "not neighbours"),
        ([[0, 4], [1, 2]], "node 4"),
    ],
)
def test_an_invalid_dendrogram_is_refused(children: list[list[int]], message: str) -> None:
    dendrogram = Dendrogram(np.array(children), np.ones(2))
    with pytest.raises(ValueError, match=message):
        action100m.cut(dendrogram, np.arange(4.0))
    with pytest.raises(ValueError, match=message):
        dendrogram.boundaries(1)


def test_children_of_the_wrong_shape_or_type_are_refused() -> None:
    for children in (np.zeros((2, 2)), np.zeros(4, np.int64), np.zeros((3, 2), np.int64)):
        with pytest.raises(ValueError, match="2 merges need children"):
            Dendrogram(children, np.ones(2))  # type: ignore[arg-type]


def containment(tree: action100m.Tree, row: int) -> list[int]:
    """Return the rows inside a segment, by their times and levels alone."""
    return [
        k
        for k in range(len(tree))
        if tree.level[k] > tree.level[row]
        and tree.start[k] >= tree.start[row]
        and tree.end[k] <= tree.end[row]
    ]


@given(seed=st.integers(0, 1000), n=st.integers(1, 200), level=st.integers(0, 12))
def test_tree_navigation_agrees_with_its_times(seed: int, n: int, level: int) -> None:
    tree = random_tree(n, seed=seed)
    for row in range(len(tree)):
        inside = tree.descendants(row).tolist()
        assert sorted(inside) == containment(tree, row)
        assert inside == sorted(inside, key=lambda k: (tree.start[k], tree.level[k]))
        children = tree.children(row).tolist()
        assert children == [k for k in containment(tree, row) if tree.parent[k] == row]
        path = tree.path(row).tolist()
        assert path == [k for k in range(len(tree)) if k == row or row in containment(tree, k)]
    for rows in (tree.leaves, tree.at_level(level)):  # tilings
        assert tree.start[rows[0]] == 0
        assert np.array_equal(tree.end[rows[:-1]], tree.start[rows[1:]])
        assert tree.end[rows[-1]] == tree.end[0]
    for time in np.random.default_rng(seed).uniform(-1, tree.end[0] + 1, 8):
        for rows, found in (
            (tree.leaves, tree.at(time)),
            (tree.at_level(level), tree.at(time, level)),
        ):
            distance = np.maximum(tree.start[rows] - time, time - tree.end[rows])
            assert found == rows[np.argmin(distance)]
    times = np.linspace(0, tree.end[0], 6).reshape(2, 3)
    assert np.array_equal(tree.at(times), [[tree.at(time) for time in row] for row in times])


def test_a_boundary_belongs_to_the_later_segment() -> None:
    tree = random_tree(200)
    for row in tree.leaves:
        assert tree.at(float(tree.start[row])) == row
    assert tree.at(float(tree.end[0])) == tree.leaves[-1]


def test_missing_segments_levels_and_times_are_errors() -> None:
    tree = random_tree(30)
    with pytest.raises(IndexError, match="no segment 1000"):
        tree.path(1000)
    with pytest.raises(ValueError, match="no level -1"):
        tree.at_level(-1)
    with pytest.raises(ValueError, match="NaN"):
        tree.at(math.nan)
