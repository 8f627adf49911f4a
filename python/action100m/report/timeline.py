"""Draw the timeline of one video: a filmstrip above the icicle chart of its tree."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageOps

from action100m.report.colors import BRANCHES, FAINT, INK, branch_positions, ink_on
from action100m.report.style import DPI, FONT, blank, drawable
from action100m.segmentation.filmstrip import Thumbnail
from action100m.text import clean, clock, counted, lasting
from action100m.tree import Tree

_WIDTH, _LEFT, _RIGHT = 10.0, 0.55, 0.25  # inches, like all sizes below
_TITLE, _STRIP, _GAP, _AXIS = 0.62, 0.6, 0.09, 0.42
_PLOT = _WIDTH - _LEFT - _RIGHT
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_RASTER_ABOVE = 5000  # segments; beyond this, an SVG contains the chart as a bitmap


def timeline(tree: Tree, thumbnails: Sequence[Thumbnail] = (), title: str = "") -> Figure:
    """Draw a tree of segments over time, with pictures of the video above it.

    Leaves have full colours, inner segments lighter ones; similar colours mean nearby branches.

    Args:
        tree: m segments.
        thumbnails: pictures in time order; as many are shown as fit.
        title: any text. Characters that the figure's font lacks are shown as □.
    """
    levels = tree.depth + 1
    row = float(np.clip(2.6 / levels, 0.13, 0.34))
    strip = _STRIP + _GAP if thumbnails else 0.0
    height = _TITLE + strip + levels * row + _AXIS
    figure = blank(_WIDTH, height)
    figure.suppressComposite = True
    _write_title(figure, tree, title, height)
    if thumbnails:
        _draw_strip(_add_axes(figure, height, _TITLE, _STRIP), tree, thumbnails)
    _draw_icicle(_add_axes(figure, height, _TITLE + strip, levels * row), tree, levels, row)
    return figure


def _add_axes(figure: Figure, height: float, top: float, tall: float) -> Axes:
    box = (_LEFT / _WIDTH, 1 - (top + tall) / height, _PLOT / _WIDTH, tall / height)
    axes = figure.add_axes(box, facecolor="none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(colors=FAINT, labelfontfamily=FONT, labelsize=7.5, width=0.6, length=3)
    return axes


def _write_title(figure: Figure, tree: Tree, title: str, height: float) -> None:
    facts = [
        lasting(tree.end[0]),
        counted(len(tree), "segment"),
        counted(int(tree.is_leaf.sum()), "leaf"),
        counted(tree.depth + 1, "level"),
    ]
    lines = (
        (drawable(clean(title, 90)), 0.24, 11.5, INK),
        ("  ·  ".join(facts), 0.44, 8, FAINT),
    )
    for text, top, size, color in lines:
        figure.text(
            _LEFT / _WIDTH,
            1 - top / height,
            text,
            fontfamily=FONT,
            fontsize=size,
            color=color,
            parse_math=False,
        )


def _draw_strip(axes: Axes, tree: Tree, thumbnails: Sequence[Thumbnail]) -> None:
    strip = _filmstrip(tree, thumbnails, round(_PLOT * DPI), round(_STRIP * DPI))
    axes.imshow(strip, extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
    axes.set_axis_off()


def _filmstrip(
    tree: Tree, thumbnails: Sequence[Thumbnail], width: int, height: int
) -> NDArray[np.uint8]:
    """Return (height, width, 4): equal slots with the pictures nearest in time, none twice."""
    with Image.open(io.BytesIO(thumbnails[0].jpeg)) as first:
        natural = height * first.width / first.height
    slots = max(1, min(round(width / natural), len(thumbnails)))
    slot = width / slots
    moments = np.array([thumbnail.seconds for thumbnail in thumbnails])
    middles = (np.arange(slots) + 0.5) / slots * tree.end[0]
    nearest = [int(np.abs(moments - middle).argmin()) for middle in middles]
    strip = Image.new("RGBA", (width, height))
    gap = max(2, height // 36)
    size = (max(1, round(min(slot, natural * 1.3)) - gap), height)
    for index, group in groupby(range(slots), key=nearest.__getitem__):
        run = list(group)
        center = (run[0] + run[-1] + 1) / 2 * slot
        with Image.open(io.BytesIO(thumbnails[index].jpeg)) as picture:
            fitted = ImageOps.fit(picture.convert("RGBA"), size, Image.Resampling.LANCZOS)
        strip.paste(fitted, (round(center - size[0] / 2), 0))
    return np.asarray(strip)


def _draw_icicle(axes: Axes, tree: Tree, levels: int, row: float) -> None:
    end = float(tree.end[0])
    axes.set_xlim(0, end)
    axes.set_ylim(levels, 0)
    inch = end / _PLOT
    right = tree.end - np.minimum(0.012 * inch, 0.25 * tree.duration)
    top, bottom = tree.level + 0.03, tree.level + 1 - 0.012 / row
    corners = [(tree.start, top), (right, top), (right, bottom), (tree.start, bottom)]
    boxes = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    colors = BRANCHES(branch_positions(tree))
    colors[~tree.is_leaf, :3] = 1 - 0.42 * (1 - colors[~tree.is_leaf, :3])
    bars = PolyCollection(list(boxes), facecolors=colors, linewidths=0)
    bars.set_snap(False)
    bars.set_rasterized(len(tree) > _RASTER_ABOVE)
    axes.add_collection(bars, autolim=False)
    _label_segments(axes, tree, colors, row, inch)
    _mark_axes(axes, end, levels)


def _label_segments(
    axes: Axes, tree: Tree, colors: NDArray[np.float64], row: float, inch: float
) -> None:
    size = min(7.5, row * 72 * 0.62)
    for i in np.flatnonzero(tree.duration > 0.2 * inch):
        text = lasting(tree.duration[i])
        if tree.duration[i] < (0.062 * len(text) + 0.07) * inch:
            continue
        axes.text(
            (tree.start[i] + tree.end[i]) / 2,
            tree.level[i] + 0.53,
            text,
            ha="center",
            va="center_baseline",
            fontfamily=FONT,
            fontsize=size,
            color=ink_on(colors[i]),
        )


def _mark_axes(axes: Axes, end: float, levels: int) -> None:
    step = next((step for step in _STEPS if end / step <= 13), end / 10)
    ticks = np.arange(0, end * (1 + 1e-9), step)
    axes.set_xticks(ticks, [_tick(tick, step) for tick in ticks])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    rows = [level for level in axes.get_yticks() if 0 <= level < levels and level == int(level)]
    axes.set_yticks([level + 0.5 for level in rows], [f"{level:.0f}" for level in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("level", fontfamily=FONT, fontsize=7.5, color=FAINT, labelpad=5)


def _tick(seconds: float, step: float) -> str:
    return f"{seconds:.1f} s" if step < 1 else clock(seconds)
