"""Draw the dataset in four figures: durations, long tail, actions by verb, and their words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.patches import Wedge
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL.ImageFont import truetype

from action100m.dataset.stats import Actions, Durations, Stats
from action100m.errors import DatasetError
from action100m.report.colors import BRANCHES, FAINT, INK, ink_on
from action100m.report.style import (
    FONT,
    add_legend,
    drawable,
    framed,
    label_logarithmic,
    short_number,
    titled,
)
from action100m.text import clean, counted

SHOWN = {
    "durations": "Histogram of the segments' durations",
    "long-tail": "Segments of each action over its rank",
    "sunburst": "Actions by verb",
    "word-cloud": "The words of the actions",
}
_ALL, _LEAVES = "#3a5fa8", "#84c07c"
_REST = "#d6d8dc"
_CLOUD = (490, 320)  # points
_CLOUD_WORDS = 140
_THINNEST = 0.003  # fraction of the full circle
_POINTS = 235  # from the sunburst's centre to its rim
_SECONDS = (0.1, 0.5, 1, 3, 10, 60, 600, 3600, 36_000)


def charts(stats: Stats) -> Iterator[tuple[str, Figure]]:
    """Yield names and figures for which there are data; the word cloud comes last.

    Raises:
        DatasetError: there are actions, but `wordcloud` is not installed.
    """
    if stats.durations is not None:
        yield "durations", durations(stats.durations, stats.leaf_durations)
    if stats.actions is not None:
        yield "long-tail", long_tail(stats.actions)
        yield "sunburst", sunburst(stats.actions)
        yield "word-cloud", word_cloud(stats.actions)


def durations(every: Durations, leaves: Durations | None) -> Figure:
    """Draw histograms of the durations of all segments and of leaves, on a logarithmic axis."""
    figure, axes = framed(7.2, 3.6, "How long segments last")
    for lasts, color, name in ((every, _ALL, "all segments"), (leaves, _LEAVES, "leaves")):
        if lasts is not None:
            label = f"{name}, median {lasts.median:.2f} s"
            axes.stairs(lasts.counts, lasts.edges, fill=True, color=color, label=label)
    axes.set_xscale("log")
    used = np.flatnonzero(every.counts)
    low, high = every.edges[int(used[0])], every.edges[int(used[-1]) + 1]
    axes.set_xlim(low / 1.1, high * 1.1)
    ticks = [tick for tick in _SECONDS if low / 1.1 <= tick <= high * 1.1]
    axes.set_xticks(ticks, [_duration(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))
    axes.set_ylabel("segments", fontfamily=FONT, fontsize=8, color=FAINT)
    add_legend(axes)
    return figure


def long_tail(actions: Actions) -> Figure:
    """Draw the number of segments of each action over its rank, both on logarithmic axes."""
    figure, axes = framed(7.2, 3.6, "The long tail of actions")
    ranks, segments = np.array(actions.curve).T
    axes.fill_between(ranks, segments, 0.7, color=_ALL, alpha=0.12, linewidth=0)
    axes.plot(ranks, segments, color=_ALL, linewidth=1.8, marker="o", markersize=2.2)
    axes.set_xlim(0.9, max(ranks[-1], 2) * 1.1)
    axes.set_ylim(0.7, segments[0] * 1.6)
    label_logarithmic(axes, "rank of the action", "segments")
    facts = [f"{counted(actions.distinct, 'distinct action')}"]
    facts += [
        f"most frequent {head}: {100 * held:.0f} % of segments"
        for head, held in actions.head_shares.items()
    ]
    axes.text(
        0.98,
        0.96,
        "\n".join(facts),
        transform=axes.transAxes,
        ha="right",
        va="top",
        fontfamily=FONT,
        fontsize=8,
        color=INK,
        linespacing=1.5,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 4},
    )
    return figure


def sunburst(actions: Actions) -> Figure:
    """Draw verbs in the inner ring and what follows them in the outer one, sized by segments.

    What is too rare for its own piece is drawn as one pale piece next to the others of its verb.
    """
    figure = titled(7.2, 7.2, "Actions by verb")
    axes = figure.add_axes((0.02, 0.01, 0.96, 0.93))
    axes.set_axis_off()
    axes.set_xlim(-1.02, 1.02)
    axes.set_ylim(-1.02, 1.02)
    axes.set_aspect("equal")
    at = 0.0
    colors = BRANCHES(np.linspace(0, 1, max(len(actions.verbs), 2)))[:, :3]
    for (verb, segments, objects), color in zip(actions.verbs, colors, strict=False):
        share = segments / actions.segments
        _ring(axes, at, share, (0.26, 0.6), color, verb)
        inner = at
        for number, (rest, held) in enumerate(objects):
            if held < _THINNEST * actions.segments:
                break
            tint = 1 - (0.62 - 0.18 * (number % 2)) * (1 - color)
            _ring(axes, inner, held / actions.segments, (0.61, 1.0), tint, rest)
            inner += held / actions.segments
        at += share
        _ring(axes, inner, at - inner, (0.61, 1.0), 1 - 0.13 * (1 - color), "")
    if at < 1 - 1e-9:
        _ring(axes, at, 1 - at, (0.26, 0.6), _REST, "other verbs")
    middle = f"{actions.segments:,}\nsegments"
    axes.text(0, 0, middle, ha="center", va="center", fontfamily=FONT, fontsize=10, color=INK)
    return figure


def _ring(
    axes: Axes, at: float, share: float, radii: tuple[float, float], color: Any, label: str
) -> None:
    """Draw one piece, clockwise from the top; `at` and `share` are fractions of the circle."""
    inner, outer = radii
    start = 90 - 360 * at
    piece = Wedge((0, 0), outer, start - 360 * share, start, width=outer - inner)
    piece.set(facecolor=color, edgecolor="white", linewidth=0.7)
    axes.add_patch(piece)
    size = min(8.5, share * 2 * np.pi * (inner + 0.05) * _POINTS)  # as wide as the piece
    if size < 4.5:
        return
    angle = start - 180 * share
    middle = np.deg2rad(angle)
    room = int((outer - inner) * _POINTS / (0.6 * size))
    axes.text(
        (inner + outer) / 2 * np.cos(middle),
        (inner + outer) / 2 * np.sin(middle),
        drawable(clean(label, max(2, room))),
        rotation=angle if angle >= -90 else angle + 180,
        rotation_mode="anchor",
        ha="center",
        va="center_baseline",
        fontfamily=FONT,
        fontsize=size,
        color=ink_on(color),
        parse_math=False,
    )


def word_cloud(actions: Actions) -> Figure:
    """Draw the words of the actions, sized by segments, without English function words.

    Raises:
        DatasetError: `wordcloud` is not installed.
    """
    try:
        from wordcloud import STOPWORDS, WordCloud
    except ImportError as error:
        raise DatasetError(
            "The word cloud needs wordcloud: pip install 'action100m[figures]'."
        ) from error
    counts: dict[str, int] = {}
    for word, count in actions.words:
        if word not in STOPWORDS and any(map(str.isalpha, word)):
            shown = drawable(clean(word, 30))
            counts[shown] = counts.get(shown, 0) + count
    width, height = _CLOUD
    figure = titled(7.2, height / 72 + 0.8, "The words of the actions")
    box = (0.2 / 7.2, 0.2 / (height / 72 + 0.8), width / 72 / 7.2, height / (height + 0.8 * 72))
    axes = figure.add_axes(box, xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    if not counts:
        return figure
    font = findfont(FontProperties(family=FONT))
    cloud = WordCloud(
        font,
        width=width,
        height=height,
        margin=3,
        max_words=_CLOUD_WORDS,
        prefer_horizontal=1,
        relative_scaling=0.45,
        max_font_size=64,
        random_state=0,
    )
    cloud.generate_from_frequencies(counts)
    colors = BRANCHES(np.linspace(0, 0.72, len(cloud.layout_)))
    for ((word, _), size, (top, left), _, _), color in zip(cloud.layout_, colors, strict=True):
        above = -truetype(font, size).getbbox(word, anchor="ls")[1]  # height over the baseline
        axes.text(
            left, top + above, word, fontfamily=FONT, fontsize=size, color=color, parse_math=False
        )
    return figure


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
