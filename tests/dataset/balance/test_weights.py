"""Weights are the probability of drawing in turns; draws follow them in whole numbers."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from action100m.dataset.balance.weights import Draws, effective_number, text_weights

labels = st.lists(st.integers(0, 6), min_size=1, max_size=40)
"""The cluster of each text; some clusters have none."""


def probability(cluster: list[int], text: int) -> Fraction:
    """The probability of a text if first a non-empty cluster, then one of its texts is drawn."""
    return Fraction(1, len(set(cluster))) * Fraction(1, cluster.count(cluster[text]))


@given(labels)
def test_weights_are_the_probability_of_round_robin_draws(cluster: list[int]) -> None:
    weights = text_weights(np.array(cluster, np.int32))
    expected = [float(probability(cluster, text)) for text in range(len(cluster))]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert weights.sum() == pytest.approx(1)


@given(st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_the_effective_number_is_the_exponential_of_the_entropy(counts: list[int]) -> None:
    shares = [n / sum(counts) for n in counts if n]
    expected = exp(-sum(share * log(share) for share in shares))
    assert effective_number(np.array(counts, np.float64)) == pytest.approx(expected)


def test_the_effective_number_of_equal_shares_is_their_count() -> None:
    assert effective_number(np.full(17, 0.3)) == pytest.approx(17)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], int]:
    """Clusters of texts, segments of each, the texts of the segments shuffled, and samples."""
    cluster = draw(labels)
    size = st.lists(st.integers(1, 5), min_size=len(cluster), max_size=len(cluster))
    segments = draw(size)
    texts = [text for text, n in enumerate(segments) for _ in range(n)]
    return cluster, segments, draw(st.permutations(texts)), draw(st.integers(1, 400))


def dealt(
    cluster: list[int], segments: list[int], texts: list[int], samples: int, seed: int, piece: int
) -> NDArray[np.int32]:
    generator = np.random.default_rng(seed)
    draws = Draws(np.array(cluster, np.int32), np.array(segments), samples, generator)
    pieces = (np.array(texts[first : first + piece]) for first in range(0, len(texts), piece))
    return np.concatenate([draws.deal(piece) for piece in pieces])


def spread(totals: dict[int, int]) -> int:
    return max(totals.values()) - min(totals.values())


@given(worlds(), st.integers(0, 9), st.integers(1, 60))
def test_draws_sum_to_the_samples_and_are_even_at_every_level(
    world: tuple[list[int], list[int], list[int], int], seed: int, piece: int
) -> None:
    cluster, segments, texts, samples = world
    draws = dealt(cluster, segments, texts, samples, seed, piece).tolist()
    assert sum(draws) == samples
    of_text, of_cluster = Counter[int](), Counter[int]()
    for text, n in zip(texts, draws, strict=True):
        of_text[text] += n
        of_cluster[cluster[text]] += n
    assert spread(of_cluster) <= 1
    for label in set(cluster):
        assert spread({t: of_text[t] for t in of_text if cluster[t] == label}) <= 1
    for text in of_text:
        own = [n for other, n in zip(texts, draws, strict=True) if other == text]
        assert max(own) - min(own) <= 1


@given(worlds(), st.integers(1, 60))
def test_draws_do_not_depend_on_the_batches_of_segments(
    world: tuple[list[int], list[int], list[int], int], piece: int
) -> None:
    at_once = dealt(*world, seed=3, piece=10**6)
    assert np.array_equal(dealt(*world, seed=3, piece=piece), at_once)


def test_the_mean_of_draws_over_seeds_is_the_weights() -> None:
    cluster, segments, samples = [0, 0, 0, 4], [1, 2, 3, 5], 7
    texts = [text for text, n in enumerate(segments) for _ in range(n)]
    seeds = 4000
    draws = sum(dealt(cluster, segments, texts, samples, seed, 100) for seed in range(seeds))
    expected = [float(samples * probability(cluster, text) / segments[text]) for text in texts]
    np.testing.assert_allclose(np.asarray(draws) / seeds, expected, atol=0.05)
