"""Ward against scikit-learn, and all code paths of the core against each other."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import diags_array
from sklearn.cluster import AgglomerativeClustering

import action100m
from action100m import _core

Rows = NDArray[np.float32] | NDArray[np.float64]
Maker = Callable[[np.random.Generator, int, int], Rows]


def sklearn_ward(X: Rows) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    n = len(X)
    chain = diags_array([np.ones(n - 1)] * 2, offsets=[-1, 1]).tocsr()
    model = AgglomerativeClustering(
        linkage="ward", connectivity=chain, n_clusters=None, distance_threshold=0
    ).fit(X)
    return model.children_, model.distances_


def walk(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.cumsum(rng.normal(size=(n, d)), axis=0)


def pieces(rng: np.random.Generator, n: int, d: int) -> Rows:
    centres = 10 * rng.normal(size=(n // 30 + 1, d))
    return centres[np.sort(rng.integers(len(centres), size=n))] + rng.normal(size=(n, d))


def noise(rng: np.random.Generator, n: int, d: int) -> Rows:
    return rng.normal(size=(n, d))


def still(rng: np.random.Generator, n: int, d: int) -> Rows:
    """Return long stretches of equal frames, as in a slide show."""
    slides = rng.integers(0, 3, size=(n // 40 + 1, d))
    return slides[np.sort(rng.integers(len(slides), size=n))].astype(float)


def ramp(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.sort(rng.normal(size=(n, d)), axis=0)


def constant(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.full((n, d), rng.normal())


def integers(rng: np.random.Generator, n: int, d: int) -> Rows:
    return rng.integers(0, 4, size=(n, d)).astype(float)


MAKERS = (walk, pieces, noise, still, ramp, constant, integers)


def exact_ward(X: Rows) -> tuple[list[list[int]], list[float]]:
    """Run greedy Ward in rational numbers, pair by pair."""
    chain = [(i, 1, [Fraction(x) for x in row.tolist()]) for i, row in enumerate(X)]
    children, heights = [], []
    for node in range(len(X), 2 * len(X) - 1):
        merges = []
        for at, ((i, n, s), (j, m, t)) in enumerate(pairwise(chain)):
            squares = sum((m * x - n * y) ** 2 for x, y in zip(s, t, strict=True))
            merges.append((squares / (n * m * (n + m)), max(i, j), min(i, j), at))
        cost, newer, older, at = min(merges)
        (_, n, s), (_, m, t) = chain[at : at + 2]
        chain[at : at + 2] = [(node, n + m, [x + y for x, y in zip(s, t, strict=True)])]
        children.append([older, newer])
        heights.append(float(2 * cost) ** 0.5)
    return children, heights


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", [walk, pieces, noise, ramp, still])
@pytest.mark.parametrize(("n", "d"), [(2500, 33), (1200, 1), (700, 200)])
def test_equals_scikit_learn(make: Maker, n: int, d: int, dtype: type) -> None:
    X = make(np.random.default_rng(n + d), n, d).astype(dtype)
    dendrogram = action100m.ward(X)
    children, heights = sklearn_ward(X.astype(np.float64))
    np.testing.assert_array_equal(dendrogram.children, children)
    np.testing.assert_allclose(dendrogram.heights, heights, rtol=1e-12, atol=1e-12)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_equals_scikit_learn_on_any_floats(data: st.DataObject) -> None:
    """Frames differ: scikit-learn's means of equal frames differ by rounding, our sums do not."""
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    n, d = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 20))
    seed = data.draw(st.integers(0, 2**32))
    make = data.draw(st.sampled_from([walk, pieces, noise, ramp]))
    X = make(np.random.default_rng(seed), n, d).astype(dtype)
    X *= dtype(10.0 ** data.draw(st.integers(-8, 8)))
    dendrogram = action100m.ward(X)
    children, heights = sklearn_ward(X.astype(np.float64))
    np.testing.assert_array_equal(dendrogram.children, children)
    np.testing.assert_allclose(dendrogram.heights, heights, rtol=1e-12)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_ties_are_resolved_as_in_exact_arithmetic(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.integers(-2, 2), min_size=n * d, max_size=n * d))
    X = np.array(values, dtype=np.float32).reshape(n, d)
    children, heights = exact_ward(X)
    for block in (1, 3, 100):
        ours, our_heights = _core.ward(X, block=block)
        assert ours.tolist() == children
        np.testing.assert_allclose(our_heights, heights, rtol=1e-12)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_results_do_not_depend_on_block_or_simd_path(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    n, d = data.draw(st.integers(1, 600)), data.draw(st.integers(1, 20))
    make = data.draw(st.sampled_from(MAKERS))
    X = make(np.random.default_rng(data.draw(st.integers(0, 2**32))), n, d).astype(dtype)
    children, heights = _core.ward(X, "scalar", 10 * n)
    for path in _core.simd_paths():
        block = data.draw(st.integers(1, 80))
        ours, our_heights = _core.ward(X, path, block)
        np.testing.assert_array_equal(ours, children)
        np.testing.assert_array_equal(our_heights, heights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_many_rows_without_one_finite_value(value: float) -> None:
    with pytest.raises(ValueError, match="Row 0"):
        action100m.ward(np.full((20_000, 8), value, np.float32))
