"""Weights under which clusters come up alike, and draws that keep to them in whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def effective_number(shares: NDArray[np.float64]) -> float:
    """exp of the entropy: as many equally frequent things are as diverse.

    Args:
        shares: (n,) not negative; need not sum to 1.
    """
    p = shares[shares > 0] / shares.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def text_weights(cluster: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n,) probability of each text: uniform over clusters, then over the texts of a cluster.

    Args:
        cluster: (n,) of each text.
    """
    _, place, texts = np.unique(cluster, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / (len(texts) * texts[place])
    return weights


class Draws:
    """`samples` draws, dealt as evenly as whole numbers go: over the clusters, over the texts of a
    cluster, over the segments of a text. Chance decides who gets what does not divide.

    In the mean over seeds a segment is drawn `samples` times its weight; in each single draw
    clusters differ by one at most.
    """

    def __init__(
        self,
        cluster: NDArray[np.int32],
        segments: NDArray[np.int64],
        samples: int,
        generator: np.random.Generator,
    ) -> None:
        """Deal the draws to the texts.

        Args:
            cluster: (n,) of each text.
            segments: (n,) that each text has, 1 or more.
            samples: to draw, with replacement where there is no other way.
            generator: decides what chance decides.
        """
        used, place = np.unique(cluster, return_inverse=True)
        every = np.array([samples])
        quotas = _dealt(every, np.zeros(len(used), np.int64), generator)
        self._draws = _dealt(quotas, place, generator)
        self._segments = segments
        self._dealt = generator.integers(segments)  # where the wheel of each text stands

    def deal(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """How often each of the next (m,) segments is drawn.

        Args:
            texts: (m,) the text of each segment. Over all calls, each comes as often as it has
                segments.
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
    """(n,) each group's quota over its members, who differ by one at most.

    Args:
        quotas: (g,) of each group.
        group: (n,) of each member; none of the g is without one.
        generator: decides who gets one more.
    """
    members = np.bincount(group, minlength=len(quotas))
    order = np.lexsort((generator.random(len(group)), group))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(members) - members, members)
    share, left = np.divmod(quotas, members)
    dealt: NDArray[np.int64] = share[group] + (rank < left[group])
    return dealt
