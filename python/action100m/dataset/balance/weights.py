"""Weights that make clusters equally likely, and whole-number draws that follow the weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def effective_number(shares: NDArray[np.float64]) -> float:
    """Return exp of the entropy: the number of equally frequent items that are as diverse.

    Args:
        shares: (n,) non-negative; need not sum to 1.
    """
    p = shares[shares > 0] / shares.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def text_weights(cluster: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the probability of each text, (n,): uniform over clusters, then over their texts.

    Args:
        cluster: (n,) cluster of each text.
    """
    _, place, texts = np.unique(cluster, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / (len(texts) * texts[place])
    return weights


class Draws:
    """`samples` draws, split as evenly as whole numbers allow: over the clusters, over the texts of
    a cluster, over the segments of a text. Remainders are assigned at random.

    Averaged over seeds, a segment is drawn `samples` times its weight; for each seed, the draws of
    any two clusters differ by at most one.
    """

    def __init__(
        self,
        cluster: NDArray[np.int32],
        segments: NDArray[np.int64],
        samples: int,
        generator: np.random.Generator,
    ) -> None:
        """Split the draws over the texts.

        Args:
            cluster: (n,) cluster of each text.
            segments: (n,) number of segments of each text, 1 or more.
            samples: number of draws; segments repeat only if their text has too few.
            generator: assigns the remainders.
        """
        used, place = np.unique(cluster, return_inverse=True)
        every = np.array([samples])
        quotas = _dealt(every, np.zeros(len(used), np.int64), generator)
        self._draws = _dealt(quotas, place, generator)
        self._segments = segments
        self._dealt = generator.integers(segments)  # position of each text's wheel

    def deal(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each of the next (m,) segments is drawn.

        Args:
            texts: (m,) text of each segment. Over all calls, each text must occur as often as it
                has segments.
        """
        order = np.argsort(texts, kind="stable")
        unique, first, counts = np.unique(texts[order], return_index=True, return_counts=True)
        draws, segments = self._draws[unique], self._segments[unique]
        earlier = np.arange(len(texts)) - np.repeat(first, counts)
        wheel = np.repeat(self._dealt[unique], counts) + earlier * np.repeat(draws, counts)
        per_turn = np.repeat(segments, counts)
        drawn = np.empty(len(texts), np.int64)
        drawn[order] = (wheel + np.repeat(draws, counts)) // per_turn - wheel // per_turn
        self._dealt[unique] += counts * draws
        return drawn


def _dealt(
    quotas: NDArray[np.int64], group: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Split each group's quota over its members, (n,); members differ by at most one.

    Args:
        quotas: (g,) quota of each group.
        group: (n,) group of each member; none of the g groups is empty.
        generator: decides which members get one more.
    """
    members = np.bincount(group, minlength=len(quotas))
    order = np.lexsort((generator.random(len(group)), group))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(members) - members, members)
    share, left = np.divmod(quotas, members)
    dealt: NDArray[np.int64] = share[group] + (rank < left[group])
    return dealt
