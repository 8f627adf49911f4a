"""The dataset's figures show the statistics, whatever the texts contain."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.patches import Wedge
from PIL import Image

import action100m
from action100m.dataset.stats import Stats, measure
from action100m.report.charts import charts, long_tail, sunburst
from action100m.report.data import DatasetView, RunSummary
from action100m.report.html import write_report
from action100m.report.of_run import view_dataset
from action100m.report.style import save
from rows import as_python, batches, write_rows

HOSTILE = [
    "<script>alert(1)</script>",
    "--><img src=http://evil.example/x>",
    "$x^2$ \\frac{1}{",
    "\u202e reversed \u05e2\u05d1\u05e8",
    "\u7d19\u3092\u6298\u308b",
    "x" * 5000,
    "]]></style><b>",
]


def with_actions(folder: Path, briefs: list[str]) -> Path:
    rows = as_python(batches(6, annotated=True))
    annotated = [node for row in rows for node in row["nodes"] if node["gpt"]]
    for number, node in enumerate(annotated):
        node["gpt"]["action"]["brief"] = briefs[number % len(briefs)]
    return write_rows(folder / "a.parquet", rows)


def measured(folder: Path, briefs: list[str]) -> Stats:
    return measure(action100m.open(with_actions(folder, briefs)))


def test_any_action_is_drawn_as_plain_text(tmp_path: Path) -> None:
    pytest.importorskip("wordcloud", reason="the word cloud is optional")
    for name, figure in charts(measured(tmp_path, HOSTILE)):
        save(figure, tmp_path / f"{name}.svg")
        save(figure, tmp_path / f"{name}.png")
        tags = {element.tag.split("}")[-1] for element in ET.parse(tmp_path / f"{name}.svg").iter()}
        assert not tags & {"script", "img", "b", "image"}
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_the_page_shows_the_figures_without_foreign_markup(tmp_path: Path) -> None:
    pytest.importorskip("wordcloud", reason="the word cloud is optional")
    view = view_dataset(action100m.open(with_actions(tmp_path, HOSTILE)))
    assert view is not None
    assert (len(view.charts), view.notes) == (4, [])
    page = tmp_path / "index.html"
    write_report(page, RunSummary("run", "now", dataset=view), [])
    text = page.read_text("utf-8")
    assert "The dataset" in text
    assert text.count('<figure role="img"') == 4
    assert "duplicate groups hold" in text
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<!--" not in text
    assert re.findall(r"<style", text) == ["<style"]


def test_markup_in_facts_and_notes_is_escaped(tmp_path: Path) -> None:
    view = DatasetView(HOSTILE, [("<b>shown</b>", "<svg></svg>")], HOSTILE)
    write_report(tmp_path / "a.html", RunSummary("run", "now", dataset=view), [])
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "<b>" not in text
    assert '<figure role="img" aria-label="&lt;b&gt;shown&lt;/b&gt;"><svg></svg></figure>' in text


def test_a_dataset_without_captions_shows_its_durations(tmp_path: Path) -> None:
    view = view_dataset(action100m.open(write_rows(tmp_path / "a.parquet", as_python(batches(2)))))
    assert view is not None
    assert [shown for shown, _ in view.charts] == ["Histogram of the segments' durations"]


def test_a_dataset_without_segments_has_no_section(tmp_path: Path) -> None:
    assert view_dataset(action100m.open(write_rows(tmp_path / "a.parquet", []))) is None
    write_report(tmp_path / "a.html", RunSummary("run", "now"), [])
    assert "The dataset" not in (tmp_path / "a.html").read_text("utf-8")


def test_without_wordcloud_the_other_charts_and_a_hint_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wordcloud", None)
    path = with_actions(tmp_path, ["Cut paper", "Fold paper"])
    view = view_dataset(action100m.open(path))
    assert view is not None
    assert len(view.charts) == 3
    assert view.notes == ["The word cloud needs wordcloud: pip install 'action100m[figures]'."]


def test_ring_widths_match_the_shares(tmp_path: Path) -> None:
    actions = measured(tmp_path, ["Cut paper", "Cut paper", "Cut wood", "Fold"]).actions
    assert actions is not None
    pieces = [piece for piece in sunburst(actions).axes[0].patches if isinstance(piece, Wedge)]
    inner = [piece.theta2 - piece.theta1 for piece in pieces if piece.r < 0.7]
    assert inner == pytest.approx([360 * n / actions.segments for _, n, _ in actions.verbs])
    outer = [piece.theta2 - piece.theta1 for piece in pieces if piece.r > 0.7]
    assert sum(outer) == pytest.approx(360)


def test_a_single_action_can_be_plotted(tmp_path: Path) -> None:
    actions = measured(tmp_path, ["Fold"]).actions
    assert actions is not None
    assert actions.effective_number == pytest.approx(1)
    save(long_tail(actions), tmp_path / "tail.png")
    save(sunburst(actions), tmp_path / "burst.png")
