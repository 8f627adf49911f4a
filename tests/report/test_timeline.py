from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from action100m import Tree
from action100m.report.colors import ink_on
from action100m.report.style import save
from action100m.report.timeline import timeline
from action100m.segmentation.filmstrip import Thumbnail
from trees import random_tree


def thumbnail(seconds: float, color: str, size: tuple[int, int] = (160, 90)) -> Thumbnail:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return Thumbnail(seconds, buffer.getvalue())


def three_segments() -> Tree:
    start, end = np.array([0.0, 0.0, 40.0]), np.array([100.0, 40.0, 100.0])
    return Tree(start, end, np.array([-1, 0, 0]), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("frames", "seconds_per_frame"), [(1, 4 / 30), (2, 0.5), (15, 4 / 30), (3000, 4 / 30)]
)
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_trees_of_every_size_are_drawn(
    tmp_path: Path, frames: int, seconds_per_frame: float, suffix: str
) -> None:
    tree = random_tree(frames, seconds_per_frame=seconds_per_frame)
    path = tmp_path / f"timeline{suffix}"
    save(timeline(tree, [thumbnail(0.1, "teal")], "A walk"), path)
    if suffix == ".png":
        with Image.open(path) as picture:
            assert picture.width == 2000
    else:
        assert ET.parse(path).getroot().tag.endswith("svg")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_chart_says_how_many_segments_and_levels_there_are() -> None:
    figure = timeline(three_segments(), title="A walk")
    assert [text.get_text() for text in figure.texts] == [
        "A walk",
        "1:40  ·  3 segments  ·  2 leaves  ·  2 levels",
    ]
    (chart,) = figure.axes
    assert chart.get_ylim() == (2, 0)
    assert [label.get_text() for label in chart.get_yticklabels()] == ["0", "1"]


def test_segments_are_labelled_with_their_durations_in_a_readable_colour() -> None:
    (chart,) = timeline(three_segments()).axes
    assert [text.get_text() for text in chart.texts] == ["1:40", "40 s", "1:00"]
    (bars,) = chart.collections
    colors = [text.get_color() for text in chart.texts]
    assert colors == [ink_on(color) for color in bars.get_facecolor()]
    assert len(set(colors)) == 2


def test_a_figure_of_a_long_video_is_small(tmp_path: Path) -> None:
    tree = random_tree(20_000, seconds_per_frame=0.54)
    assert len(tree) > 5000
    save(timeline(tree, title="Three hours"), tmp_path / "hours.svg")
    assert (tmp_path / "hours.svg").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "title",
    [
        "$x^2$ costs $5",
        r"\frac{1}{$",
        "\x00\x1b[31m\n\r\t\ufffe",
        "\ud800 torn",
        "\u202e reversed עברית العربية",
        "紙の船 🚣🏽\u200d♀️ क्षि",
        "x" * 1_000_000,
        "",
    ],
)
def test_any_title_is_drawn(tmp_path: Path, title: str) -> None:
    for suffix in (".png", ".svg"):
        save(timeline(random_tree(20), title=title), tmp_path / f"titled{suffix}")


def test_each_thumbnail_is_drawn_at_its_time(tmp_path: Path) -> None:
    tree = random_tree(150)  # 20 s
    colors = ["#cc0000", "#00aa00", "#0000cc", "#bbbb00"]
    pictures = [thumbnail(2.5 + 5 * k, color) for k, color in enumerate(colors)]
    figure = timeline(tree, pictures)
    save(figure, tmp_path / "strip.png")
    strip = figure.axes[0].get_position()
    with Image.open(tmp_path / "strip.png") as picture:
        row = round((1 - (strip.y0 + strip.y1) / 2) * picture.height)
        for k, color in enumerate(colors):
            column = round((strip.x0 + (k + 0.5) / 4 * strip.width) * picture.width)
            seen = np.array(picture.convert("RGB").getpixel((column, row)))
            wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
            assert np.abs(seen - wanted).max() < 12
