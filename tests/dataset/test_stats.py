"""The statistics equal those counted in plain Python, however the data is split."""

from __future__ import annotations

import json
from collections import Counter
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import action100m
from action100m.dataset.actions import normalised
from action100m.dataset.distinct import Distinct
from action100m.dataset.running_statistics import count_words
from action100m.dataset.stats import Stats, measure
from action100m.dataset.vocabulary import Vocabulary
from command import call
from rows import as_python, batches, rows_with_briefs, write_rows

Row = dict[str, Any]
BRIEFS = [
    "Stir the sauce",
    "stir the sauce.",
    "Cut paper",
    "N/A",
    "n/a",
    "Fold",
    "cut paper",
    "Cut",
]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Eight videos whose annotated segments have the briefs in turn."""
    return rows_with_briefs(8, BRIEFS)


@pytest.fixture(scope="module")
def folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "a.parquet", rows[:5])
    write_rows(folder / "b.parquet", rows[5:])
    return folder


@pytest.fixture(scope="module")
def stats(folder: Path) -> Stats:
    return measure(action100m.open(folder))


def spelled(rows: list[Row]) -> Counter[str]:
    briefs = [n["gpt"]["action"]["brief"] for row in rows for n in row["nodes"] if n["gpt"]]
    return Counter(b.lower().rstrip(".") for b in briefs if b.lower() != "n/a")


def test_sizes_levels_and_durations(stats: Stats, rows: list[Row]) -> None:
    nodes = [node for row in rows for node in row["nodes"]]
    inner = {node["parent_id"] for node in nodes}
    lasts = [round(node["end"] - node["start"], 2) for node in nodes]
    assert (stats.files, stats.videos, stats.segments) == (2, 8, len(nodes))
    assert stats.leaves == sum(node["node_id"] not in inner for node in nodes)
    assert stats.seconds == pytest.approx(sum(row["nodes"][0]["end"] for row in rows))
    assert stats.levels == [
        sum(node["level"] == level for node in nodes) for level in range(len(stats.levels))
    ]
    depths = [max(node["level"] for node in row["nodes"]) for row in rows]
    assert stats.deepest == (min(depths), max(depths))
    assert stats.durations is not None
    assert stats.durations.mean == pytest.approx(np.mean(lasts))
    median = np.quantile(lasts, 0.5, method="inverted_cdf")
    assert stats.durations.median == pytest.approx(median)
    assert stats.durations.longest == pytest.approx(max(lasts))
    assert sum(stats.durations.counts) == len(nodes)


def test_duplicate_groups_and_the_long_tail(stats: Stats, rows: list[Row]) -> None:
    counts = spelled(rows)
    total = counts.total()
    annotated = sum(node["gpt"] is not None for row in rows for node in row["nodes"])
    assert stats.annotated == annotated
    assert stats.no_action == pytest.approx(1 - total / annotated)
    actions = stats.actions
    assert actions is not None
    assert (actions.segments, actions.distinct) == (total, len(counts))
    assert actions.duplicate_groups == sum(n > 1 for n in counts.values())
    assert actions.in_duplicate_groups == sum(n for n in counts.values() if n > 1)
    assert actions.most_frequent == sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    entropy = -sum(n / total * log(n / total) for n in counts.values())
    assert actions.effective_number == pytest.approx(exp(entropy))
    assert actions.head_shares["50 %"] == pytest.approx(
        sum(n for _, n in counts.most_common(round(len(counts) / 2))) / total
    )
    assert actions.curve[0] == (1, counts.most_common(1)[0][1])
    verbs = Counter[str]()
    for action, n in counts.items():
        verbs[action.split()[0]] += n
    assert {verb: n for verb, n, _ in actions.verbs} == verbs
    assert dict(actions.verbs[0][2]).keys() <= {"the sauce", "paper"}
    assert dict(actions.words)["sauce"] == counts["stir the sauce"]


def test_words_of_every_field(stats: Stats, rows: list[Row]) -> None:
    texts = [node["plm_caption"] for row in rows for node in row["nodes"] if node["plm_caption"]]
    words = stats.words["plm_caption"]
    assert (words.texts, words.words) == (len(texts), sum(len(text.split()) for text in texts))


def test_a_dataset_without_captions_has_no_actions(tmp_path: Path) -> None:
    stats = measure(action100m.open(write_rows(tmp_path / "a.parquet", as_python(batches(2)))))
    assert (stats.words, stats.actions, stats.no_action, stats.annotated) == ({}, None, None, 0)
    assert "actions" not in "\n".join(stats.lines())


def test_long_videos_are_counted_in_full(tmp_path: Path) -> None:
    row = as_python(batches(1))[0]
    root = next(node for node in row["nodes"] if node["level"] == 0)
    root["end"] = 12 * 3600.0
    stats = measure(action100m.open(write_rows(tmp_path / "a.parquet", [row])))
    assert stats.seconds == 12 * 3600


def test_the_order_of_the_segments_does_not_matter(rows: list[Row], tmp_path: Path) -> None:
    shuffled = [{**row, "nodes": row["nodes"][::-1]} for row in rows]
    stats, other = (
        measure(action100m.open(write_rows(tmp_path / f"{name}.parquet", some)))
        for name, some in (("a", rows), ("b", shuffled))
    )
    assert other == stats


def test_an_empty_dataset_is_measured(tmp_path: Path) -> None:
    stats = measure(action100m.open(write_rows(tmp_path / "a.parquet", [])))
    assert (stats.segments, stats.durations, stats.deepest) == (0, None, None)
    assert list(stats.lines()) == ["0 videos in 1 file, 0.0 minutes, 0 segments, 0 leaves"]


@given(
    st.lists(st.lists(st.sampled_from([f"action {n}" for n in range(40)]), max_size=60)),
    st.integers(1, 50),
)
def test_counts_in_pieces_equal_the_counts_of_the_whole(
    pieces: list[list[str]], named: int
) -> None:
    distinct = Distinct(named)
    for piece in pieces:
        counts = Counter(piece)
        distinct.add(pa.array(list(counts), pa.string()), np.array([*counts.values()], np.int64))
    every = Counter(text for piece in pieces for text in piece)
    assert distinct.counts().tolist() == sorted(every.values(), reverse=True)
    best = distinct.most_frequent()
    assert [n for _, n in best] == [n for _, n in every.most_common(named)]
    assert all(every[text] == n for text, n in best)


def test_a_vocabulary_in_many_pieces_counts_as_one(rows: list[Row]) -> None:
    briefs = pa.array([*BRIEFS * 3, None])
    whole, pieces = Vocabulary(), Vocabulary()
    whole.add(briefs)
    for start in range(0, len(briefs), 5):
        pieces.add(briefs[start : start + 5])
        pieces.finish()
    whole.finish()
    for kind in ("actions", "verbs", "words"):
        assert getattr(whole, kind).most_frequent() == getattr(pieces, kind).most_frequent()
    expected = Counter(normalised(briefs).drop_null().to_pylist())
    assert dict(whole.actions.most_frequent()) == expected


@given(
    st.lists(
        st.none() | st.text(st.sampled_from(" \t\n\r\x0b\x0cabé.\x08"), max_size=8), max_size=8
    ),
    st.integers(0, 3),
)
def test_words_are_counted_like_bytes_split(texts: list[str | None], skipped: int) -> None:
    array = pa.array(texts, pa.string())[skipped:]
    expected = sum(len(text.encode().split()) for text in texts[skipped:] if text is not None)
    assert count_words(array) == expected


def test_words_hidden_by_a_null_are_not_counted() -> None:
    texts = pa.array(["two words", "three more words"])
    hidden = pa.StringArray.from_buffers(2, *texts.buffers()[1:], pa.py_buffer(b"\x01"))
    assert hidden.to_pylist() == ["two words", None]
    assert count_words(hidden) == 2


def test_the_command_prints_plots_and_skips_broken_files(
    folder: Path, stats: Stats, tmp_path: Path
) -> None:
    pytest.importorskip("wordcloud", reason="the word cloud is optional")
    figures = tmp_path / "figures"
    result = call("stats", folder, "--json", "--figures", figures)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(json.dumps(stats.as_json()))
    names = {"durations", "long-tail", "sunburst", "word-cloud"}
    assert {f.name for f in figures.iterdir()} == {
        f"{n}.{s}" for n in names for s in ("png", "svg")
    }
    half = tmp_path / "half.parquet"
    half.write_bytes((folder / "a.parquet").read_bytes()[:999])
    result = call("stats", folder, half)
    assert result.returncode == 1
    assert str(half) in result.stderr
    assert "8 videos" in result.stdout
    assert "duplicate groups hold" in result.stdout
