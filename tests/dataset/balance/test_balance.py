"""The index has the probability of drawing each segment, as counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import action100m
from action100m import DatasetError, NothingToDoError
from action100m.dataset.balance import balance
from command import call
from rows import as_python, batches, write_rows

Row = dict[str, Any]
Actions = dict[tuple[str, str], str]


def read(path: Path) -> list[Row]:
    index: list[Row] = pq.read_table(path).to_pylist()
    return index


@pytest.mark.parametrize("clusters", [1, 3, 100])
def test_weights_are_the_documented_probability(
    clusters: int, folder: Path, actions: Actions, tmp_path: Path
) -> None:
    if clusters < 6:
        pytest.importorskip("faiss", reason="clustering needs faiss")
    out = tmp_path / "new" / "index.parquet"
    result = balance(action100m.open(folder), out, clusters=clusters, samples=997)
    index = read(out)
    assert [(row["video_uid"], row["node_id"]) for row in index] == list(actions)
    cluster_of = dict(zip(actions.values(), (row["cluster"] for row in index), strict=True))
    for row, action in zip(index, actions.values(), strict=True):
        assert row["cluster"] == cluster_of[action]  # one spelling, one cluster
        used = len(set(cluster_of.values()))
        size = list(cluster_of.values()).count(row["cluster"])
        repeats = list(actions.values()).count(action)
        assert row["weight"] == pytest.approx(1 / used / size / repeats)
    assert sum(row["weight"] for row in index) == pytest.approx(1)
    assert sum(row["draws"] for row in index) == 997
    assert result.segments == len(index)
    assert sum(result.before) == pytest.approx(1)
    assert sum(result.after) == pytest.approx(1)
    assert (result.before.size, result.clusters.size) == (len(cluster_of),) * 2


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="clustering needs faiss")
    written = {}
    for name, seed in (("first", 5), ("again", 5), ("other", 6)):
        balance(action100m.open(folder), tmp_path / name, clusters=3, samples=10, seed=seed)
        written[name] = (tmp_path / name).read_bytes()
    assert written["first"] == written["again"] != written["other"]
    assert {path.name for path in tmp_path.iterdir()} == written.keys()


def test_the_file_says_how_it_was_made(folder: Path, tmp_path: Path) -> None:
    balance(action100m.open(folder), tmp_path / "index.parquet", clusters=9, seed=9)
    schema = pq.read_schema(tmp_path / "index.parquet")
    assert schema.names == ["video_uid", "node_id", "cluster", "weight"]
    assert json.loads(schema.metadata[b"action100m.balance"]) == {
        "clusters": 9,
        "samples": None,
        "seed": 9,
        "embedder": "hashed-128",
    }


def test_a_file_of_the_dataset_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    before = (folder / "a.parquet").read_bytes()
    link = tmp_path / "link.parquet"
    link.symlink_to(folder / "a.parquet")
    for out in (folder / "a.parquet", link):
        with pytest.raises(DatasetError, match="is a file of the dataset"):
            balance(action100m.open(folder), out, clusters=9)
    assert (folder / "a.parquet").read_bytes() == before


def test_segments_without_actions_cannot_be_balanced(tmp_path: Path) -> None:
    bare = write_rows(tmp_path / "bare.parquet", as_python(batches(2)))
    with pytest.raises(NothingToDoError, match="No selected segment has an action"):
        balance(action100m.open(bare), tmp_path / "index.parquet", clusters=9)
    assert [path.name for path in tmp_path.iterdir()] == ["bare.parquet"]


@pytest.mark.parametrize("wrong", [{"clusters": 0}, {"clusters": 9, "samples": 0}])
def test_zero_clusters_or_samples_are_refused(
    folder: Path, wrong: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="at least one cluster and one sample"):
        balance(action100m.open(folder), tmp_path / "index.parquet", **wrong)  # type: ignore[arg-type]


def test_the_command_writes_prints_and_plots(
    folder: Path, actions: Actions, tmp_path: Path
) -> None:
    out, figure = tmp_path / "index.parquet", tmp_path / "tail.svg"
    result = call("balance", folder, "-o", out, "--samples", "50", "--figure", figure)
    assert result.returncode == 0, result.stderr
    assert len(read(out)) == len(actions)
    assert f"{len(actions)} segments with 6 actions in 6 clusters" in result.stdout
    assert "each is its own cluster" in result.stdout
    assert "actions before" in figure.read_text()


def test_the_command_stops_at_a_broken_file_or_skips_it(folder: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.parquet"
    half.write_bytes((folder / "b.parquet").read_bytes()[:999])
    out = tmp_path / "index.parquet"
    stopped = call("balance", folder / "a.parquet", half, "-o", out)
    assert stopped.returncode == 2
    assert str(half) in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert not out.exists()
    went_on = call("balance", folder / "a.parquet", half, "-o", out, "--keep-going")
    assert went_on.returncode == 1
    assert str(half) in went_on.stderr
    assert {row["video_uid"] for row in read(out)} <= {f"video000{n}" for n in range(4)}
    nothing = call("balance", tmp_path / "none", "-o", out)
    assert nothing.returncode == 2
    assert "Traceback" not in nothing.stderr


def test_draws_may_exceed_32_bits(folder: Path, tmp_path: Path) -> None:
    samples = 2**33 + 1
    balance(action100m.open(folder), tmp_path / "index.parquet", clusters=9999, samples=samples)
    draws = pq.read_table(tmp_path / "index.parquet").column("draws")
    assert pc.sum(draws).as_py() == samples


def test_duplicate_uids_are_refused(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.parquet"
    again.write_bytes(next(folder.glob("*.parquet")).read_bytes())
    with pytest.raises(DatasetError, match="video_uid also occurs in"):
        balance(action100m.open([folder, again]), tmp_path / "index.parquet", clusters=3)
