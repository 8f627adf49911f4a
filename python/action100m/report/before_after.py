"""Draw long tails before and after balancing in one figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from action100m.dataset.balance.weights import effective_number
from action100m.report.style import add_legend, framed, label_logarithmic

Shares = NDArray[np.float64]
_COLORS = ("#3a5fa8", "#d98136", "#5d9c59")
_POINTS = 400


def before_after(tails: Mapping[str, tuple[Shares, Shares]]) -> Figure:
    """Draw each item's share of the draws over its rank, both on logarithmic axes.

    Args:
        tails: up to three pairs of (n,) shares, before balancing (dashed) and after it, each in any
            order, by the name of the items, such as "actions".
    """
    figure, axes = framed(7.2, 4.2, "The long tail, before and after balancing")
    for (name, both), color in zip(tails.items(), _COLORS, strict=False):
        for shares, style, when in zip(both, ("--", "-"), ("before", "after"), strict=True):
            ordered = np.sort(shares[shares > 0])[::-1] / shares.sum()
            ranks = np.unique(np.geomspace(1, len(ordered), _POINTS).round().astype(int))
            axes.plot(
                ranks,
                100 * ordered[ranks - 1],
                style,
                color=color,
                linewidth=1.6,
                label=f"{name} {when}: effective number {effective_number(shares):,.0f}",
            )
    label_logarithmic(axes, "rank", "% of the draws")
    add_legend(axes)
    return figure
