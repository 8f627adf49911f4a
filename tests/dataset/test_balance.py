"""The index holds the documented probabilities, and draws that keep to them in whole numbers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import action100m
from action100m.dataset.balance import balance
from action100m.dataset.balance.weights import Draws, effective_number, text_weights
from action100m.dataset.embeddings import HashedEmbedder
from action100m.dataset.select import Selection
from action100m.dataset.sources import DatasetError
from command import call
from rows import as_python, batches, write_rows

Row = dict[str, Any]
BRIEFS = (["Stir the sauce", "stir  the sauce.", "Stir the soup"] * 5 + ["cut paper", "N/A"]) * 3


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Six videos whose annotated segments have the briefs in turn, then ever new actions."""
    rows = as_python(batches(6, annotated=True))
    annotated = [node for row in rows for node in row["nodes"] if node["gpt"]]
    for number, node in enumerate(annotated):
        text = BRIEFS[number] if number < len(BRIEFS) else f"paint plank {number % 29}"
        node["gpt"]["action"]["brief"] = None if number % 17 == 16 else text
    return rows


@pytest.fixture(scope="module")
def data(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "a.parquet", rows[:4])
    write_rows(folder / "b.parquet", rows[4:])
    return folder


def acting(rows: list[Row]) -> list[tuple[str, str, str]]:
    """Uid, node id and action of each segment that has one, in plain Python."""
    return [
        (row["video_uid"], node["node_id"], " ".join(brief.lower().strip(".").split()))
        for row in rows
        for node in row["nodes"]
        if node["gpt"] and (brief := node["gpt"]["action"]["brief"]) not in {None, "N/A"}
    ]


def test_each_distinct_action_alike_where_clusters_suffice(
    rows: list[Row], data: Path, tmp_path: Path
) -> None:
    result = balance(action100m.open(data), tmp_path / "index.parquet")
    index = pq.read_table(tmp_path / "index.parquet")
    wanted = acting(rows)
    count = Counter(action for *_, action in wanted)
    assert index.column("video_uid").to_pylist() == [uid for uid, *_ in wanted]
    assert index.column("node_id").to_pylist() == [node for _, node, _ in wanted]
    assert index.column("weight").to_pylist() == pytest.approx(
        [1 / (len(count) * count[action]) for *_, action in wanted]
    )
    clusters = index.column("cluster").to_pylist()
    pairs = {(action, cluster) for (*_, action), cluster in zip(wanted, clusters, strict=True)}
    assert len(pairs) == len(set(clusters)) == len(count)
    assert result.segments == len(wanted)
    gpt = [node["gpt"] for row in rows for node in row["nodes"]]
    briefs = [given["action"]["brief"] if given else None for given in gpt]
    assert (result.null, result.no_action) == (briefs.count(None), briefs.count("N/A"))


def test_few_clusters_are_drawn_alike(rows: list[Row], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    balance(action100m.open(data), tmp_path / "index.parquet", clusters=3, samples=1000)
    index = pq.read_table(tmp_path / "index.parquet").to_pydict()
    actions = [action for *_, action in acting(rows)]
    inside: dict[int, Counter[str]] = {}
    for cluster, action in zip(index["cluster"], actions, strict=True):
        inside.setdefault(cluster, Counter())[action] += 1
    assert len(inside) == 3
    assert sum(map(len, inside.values())) == len(set(actions))  # an action is in one cluster
    weights = [
        1 / (3 * len(inside[cluster]) * inside[cluster][action])
        for cluster, action in zip(index["cluster"], actions, strict=True)
    ]
    assert index["weight"] == pytest.approx(weights)
    assert sum(index["draws"]) == 1000
    drawn = np.bincount(index["cluster"], index["draws"])
    assert sorted(drawn) == [333, 333, 334]
    assert np.abs(np.array(index["draws"]) - 1000 * np.array(weights)).max() < 2


def test_the_same_seed_gives_the_same_file(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    dataset = action100m.open(data)
    files = [tmp_path / f"{number}.parquet" for number in range(3)]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        balance(dataset, file, clusters=3, samples=100, seed=seed)
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    about = json.loads(pq.read_schema(files[2]).metadata[b"action100m.balance"])
    assert about == {
        "clusters": 3,
        "samples": 100,
        "seed": 1,
        "embedder": HashedEmbedder().identity,
    }
    assert sorted(tmp_path.iterdir()) == files  # nothing is left beside them


def test_only_what_is_selected_counts(rows: list[Row], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "index.parquet"
    balance(action100m.open(data), out, selection=Selection(min_level=2, max_duration=9.0))
    chosen = {
        node["node_id"]
        for row in rows
        for node in row["nodes"]
        if node["level"] >= 2 and node["end"] - node["start"] <= 9.0
    }
    found = pq.read_table(out).column("node_id").to_pylist()
    assert found == [node for _, node, _ in acting(rows) if node in chosen]


def test_what_cannot_be_balanced_is_said(data: Path, tmp_path: Path) -> None:
    dataset = action100m.open(data)
    with pytest.raises(DatasetError, match="No selected segment has an action"):
        balance(dataset, tmp_path / "out", selection=Selection(min_level=90))
    copy = shutil.copytree(data, tmp_path / "copy")
    before = (copy / "a.parquet").read_bytes()
    with pytest.raises(DatasetError, match="is a file of the dataset"):
        balance(action100m.open(copy), copy / "a.parquet")
    assert (copy / "a.parquet").read_bytes() == before
    with pytest.raises(ValueError, match="at least one cluster"):
        balance(dataset, tmp_path / "out", clusters=0)
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_changed(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "torn.parquet").write_bytes(b"PAR1")
    words = ("balance", "data", "--out", "index.parquet", "--samples", "50")
    torn = call(*words, cwd=tmp_path)
    assert torn.returncode == 2
    assert "torn.parquet" in torn.stderr
    assert not (tmp_path / "index.parquet").exists()
    answer = call(*words, "--keep-going", "--figure", "figure.svg", cwd=tmp_path)
    assert answer.returncode == 1
    assert "equally frequent actions before" in answer.stdout
    assert (tmp_path / "figure.svg").stat().st_size > 2000
    assert sum(pq.read_table(tmp_path / "index.parquet").column("draws").to_pylist()) == 50


@given(
    cluster=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    samples=st.integers(1, 200),
    data=st.data(),
)
def test_draws_differ_by_one_at_most(cluster: list[int], samples: int, data: Any) -> None:
    segments = np.array(
        data.draw(st.lists(st.integers(1, 9), min_size=len(cluster), max_size=len(cluster)))
    )
    order = data.draw(st.permutations(np.repeat(np.arange(len(cluster)), segments).tolist()))
    labels = np.array(cluster, np.int32)
    draws = Draws(labels, segments, samples, np.random.default_rng(data.draw(st.integers(0, 9))))
    half = len(order) // 2
    dealt = [draws.deal(np.array(part, np.int64)) for part in (order[:half], order[half:])]
    drawn = np.concatenate(dealt)
    assert drawn.sum() == samples
    per_text = np.bincount(order, drawn, len(cluster))
    used, place = np.unique(labels, return_inverse=True)
    groups = [np.bincount(place, per_text)]  # of clusters, of a cluster's texts, of a text's rows
    groups += [per_text[labels == one] for one in used]
    groups += [drawn[np.array(order) == text] for text in range(len(cluster))]
    assert all(np.ptp(group) <= 1 for group in groups)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_weights_are_the_probabilities_of_drawing(cluster: list[int]) -> None:
    sizes = Counter(cluster)
    wanted = [1 / (len(sizes) * sizes[one]) for one in cluster]
    assert text_weights(np.array(cluster, np.int32)).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_n_alike_are_as_diverse_as_n(n: int) -> None:
    assert effective_number(np.full(n, 3.0)) == pytest.approx(n)
    assert effective_number(np.array([5.0, *[0.0] * n])) == pytest.approx(1)


def test_alike_spellings_lie_close() -> None:
    words = ["stir the sauce", "stir the sauces", "paint a plank"]
    one, like, other = HashedEmbedder().embed(pa.array(words).to_pylist())
    assert one @ like > 0.7
    assert one @ other < 0.3
