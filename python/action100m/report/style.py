"""What all figures share: their fonts and sizes, the frame of a chart, and how they are written."""

from __future__ import annotations

import io
import re
import threading
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, NullLocator

from action100m.files import write_atomically
from action100m.report.colors import FAINT, INK

FONT = "DejaVu Sans"  # included in matplotlib, so figures look the same everywhere
DPI = 200
_ONLY_IN_FILES = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)

_saving = threading.Lock()


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically.

    Args:
        figure: a figure of this package.
        path: the file to write, ending in .png or .svg.

    Raises:
        ValueError: the path has another suffix.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise ValueError(f"A figure must be saved as .png or .svg, not as {path.name!r}.")
    written = _rendered(figure, kind)
    write_atomically(path, lambda temporary: temporary.write_bytes(written))


def inline(figure: Figure) -> str:
    """Return the figure as an SVG element for a page, without comments, metadata and styles."""
    document = _rendered(figure, "svg").decode()
    return _ONLY_IN_FILES.sub("", document[document.index("<svg") :])


def _rendered(figure: Figure, kind: str) -> bytes:
    """Return the bytes of a "png" or "svg" file; equal figures give equal bytes."""
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with _saving:  # matplotlib reads the salt of SVG ids only from a global setting
        salt = matplotlib.rcParams["svg.hashsalt"]
        matplotlib.rcParams["svg.hashsalt"] = "action100m"
        try:
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        finally:
            matplotlib.rcParams["svg.hashsalt"] = salt
    return buffer.getvalue()


def drawable(text: str) -> str:
    """Return the text with □ for characters that the figures' font lacks."""
    known = _known_characters()
    return "".join(c if ord(c) in known else "□" for c in text)


@cache
def _known_characters() -> frozenset[int]:
    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())


def blank(width: float, height: float) -> Figure:
    """Create an empty white figure, sized in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def titled(width: float, height: float, title: str) -> Figure:
    """Create a figure, sized in inches, with a title at its top left."""
    figure = blank(width, height)
    top = 1 - 0.3 / height
    figure.text(0.3 / width, top, title, fontfamily=FONT, fontsize=11.5, color=INK)
    return figure


def framed(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Create a titled figure, sized in inches, with axes with a bottom line and a faint grid."""
    figure = titled(width, height, title)
    axes = figure.add_axes((0.11, 0.145, 0.86, 0.72), facecolor="none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(FAINT)
    axes.tick_params(colors=FAINT, labelfontfamily=FONT, labelsize=8, width=0.6, length=3)
    axes.grid(axis="y", color="#e9eaec", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def label_logarithmic(axes: Axes, x: str, y: str) -> None:
    """Make both axes logarithmic, with short numbers, and label them."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(short_number))
    axes.set_xlabel(x, fontfamily=FONT, fontsize=8, color=FAINT)
    axes.set_ylabel(y, fontfamily=FONT, fontsize=8, color=FAINT)


def add_legend(axes: Axes) -> None:
    """Explain the lines and areas that have a label."""
    axes.legend(frameon=False, prop={"family": FONT, "size": 8}, labelcolor=INK)


def short_number(value: float, _: object = None) -> str:
    """Return a number as an axis shows it, such as "12 k"; axes also pass its position."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
