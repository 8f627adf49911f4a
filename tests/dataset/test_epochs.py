"""Every sample of an epoch goes to one rank once, and an index is followed."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import action100m
from action100m.dataset.balance.index import Index
from action100m.dataset.clips.choice import Choice
from action100m.dataset.epochs import Dealing, Pool, gather_pool
from action100m.dataset.select import Selection
from action100m.dataset.write import write_shards
from action100m.errors import DatasetError
from rows import batches, write_rows

Row = dict[str, Any]
UIDS = [f"video{number:04d}" for number in range(12)]


@given(
    samples=st.integers(0, 200),
    done=st.integers(0, 200),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 7),
    drop_last=st.booleans(),
)
def test_ranks_receive_every_sample_once(
    samples: int, done: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    done = min(done, samples)
    ranks = [
        Dealing(samples, done, batch_size, rank, world_size, drop_last)
        for rank in range(world_size)
    ]
    batches = [[list(rank.batch(k)) for k in range(len(rank))] for rank in ranks]
    dealt = [sample for rank in batches for batch in rank for sample in batch]
    left_out = (samples - done) % (batch_size * world_size) if drop_last else 0
    assert sorted(dealt) == list(range(done, samples - left_out))
    assert all(1 <= len(batch) <= batch_size for rank in batches for batch in rank)
    sizes = [sum(map(len, rank)) for rank in batches]
    assert max(sizes) - min(sizes) <= (not drop_last)
    if drop_last:
        assert len({len(rank) for rank in batches}) == 1


@given(
    samples=st.integers(1, 100),
    before=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    after=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    stop=st.integers(0, 100),
)
def test_resuming_with_other_ranks_misses_nothing(
    samples: int, before: tuple[int, int], after: tuple[int, int], stop: int
) -> None:
    first = [Dealing(samples, 0, before[0], rank, before[1]) for rank in range(before[1])]
    stop %= len(first[0])
    seen = [k for rank in first for b in range(min(stop + 1, len(rank))) for k in rank.batch(b)]
    done = first[0].after(stop)
    rest = [Dealing(samples, done, after[0], rank, after[1]) for rank in range(after[1])]
    seen += [k for rank in rest for b in range(len(rank)) for k in rank.batch(b)]
    assert sorted(seen) == list(range(samples))


def segments(pool: Pool, order: np.ndarray) -> list[tuple[str, str]]:
    """Uid and node id of each segment, read one by one."""
    found = []
    for segment in order.tolist():
        video, node = pool.read(segment, ["nodes.node_id"])
        found.append((video.uid, video.column("node_id")[node].as_py()))
    return found


def test_the_pool_has_the_chosen_segments_of_available_videos(
    rows: list[Row], folder: Path
) -> None:
    here = UIDS[:2] + UIDS[5:9]
    choice = Choice(Selection(min_level=2, min_duration=3.0))
    pool, absent = gather_pool(action100m.open(folder), choice, None, here)
    expected = {
        (row["video_uid"], node["node_id"])
        for row in rows
        for node in row["nodes"]
        if row["video_uid"] in here and node["level"] >= 2
        if round(node["end"] - node["start"], 2) >= 3.0
    }
    order = pool.order(0, 0)
    assert absent == len(UIDS) - len(here) - 1  # one video has only its root
    assert len(order) == len(pool) == len(expected)
    assert set(segments(pool, order)) == expected
    assert (pool.order(0, 0) == order).all()
    assert (pool.order(0, 1) != order).any()
    assert (pool.order(1, 0) != order).any()


def write_index(path: Path, rows: list[Row], draws: list[int] | None) -> dict[Any, float]:
    """Write an index of every fourth segment, in a different order; return the weights."""
    keys = [(row["video_uid"], node["node_id"]) for row in rows for node in row["nodes"]][::4]
    keys = keys[::-1]
    weights = np.linspace(1, 2, len(keys)) / len(keys)
    columns = {"video_uid": [k[0] for k in keys], "node_id": [k[1] for k in keys]}
    columns["weight"] = weights
    if draws is not None:
        columns["draws"] = pa.array(np.resize(draws, len(keys)), pa.int32())
    pq.write_table(pa.table(columns), path)
    counts = weights if draws is None else np.resize(draws, len(keys))
    return dict(zip(keys, counts.tolist(), strict=True))


def test_segments_are_repeated_according_to_draws(
    rows: list[Row], folder: Path, tmp_path: Path
) -> None:
    draws = write_index(tmp_path / "index.parquet", rows, [0, 1, 3])
    index = Index.read(tmp_path / "index.parquet")
    pool, _ = gather_pool(action100m.open(folder), Choice(), index, UIDS)
    order = pool.order(0, 0)
    assert len(order) == len(pool) == sum(draws.values())
    drawn = Counter(segments(pool, order))
    assert drawn == {key: count for key, count in draws.items() if count}


def test_segments_are_drawn_according_to_weights(
    rows: list[Row], folder: Path, tmp_path: Path
) -> None:
    weights = write_index(tmp_path / "index.parquet", rows, None)
    index = Index.read(tmp_path / "index.parquet")
    pool, _ = gather_pool(action100m.open(folder), Choice(), index, UIDS)
    n, epochs = len(pool), 400
    drawn = np.zeros(n)
    for epoch in range(epochs):
        drawn += np.bincount(pool.order(0, epoch), minlength=n)
    keys = segments(pool, np.arange(n))
    expected = np.array([weights[key] for key in keys])
    expected *= n * epochs / expected.sum()
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()


def test_an_index_of_another_dataset_is_refused(
    rows: list[Row], folder: Path, tmp_path: Path
) -> None:
    write_index(tmp_path / "index.parquet", rows, None)
    index = Index.read(tmp_path / "index.parquet")
    write_rows(tmp_path / "some.parquet", rows[:6])
    with pytest.raises(DatasetError, match=r"lacks .* segments"):
        gather_pool(action100m.open(tmp_path / "some.parquet"), Choice(), index, UIDS)
    with pytest.raises(DatasetError, match="No segment can be drawn"):
        gather_pool(action100m.open(folder), Choice(), None, [])
    with pytest.raises(DatasetError, match="not an index from `balance`"):
        Index.read(tmp_path / "some.parquet")


def test_a_rewritten_dataset_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_shards(islice(batches(6), 1, None), folder, 5, {}, 512)
    uids = {f"video{number:04d}" for number in range(6)}
    pool, _ = gather_pool(action100m.open(folder), Choice(), None, uids)
    moved = tmp_path / "moved"
    write_shards(islice(batches(6), 1, None), moved, 5, {}, 2)
    other, _ = gather_pool(action100m.open(moved), Choice(), None, uids)
    assert other.identity == pool.identity
    write_shards(batches(6), folder, 6, {}, 512)
    for segment in range(len(pool)):
        with pytest.raises(DatasetError, match="open the dataset again"):
            pool.read(segment, ["nodes.node_id"])
    rewritten, _ = gather_pool(action100m.open(folder), Choice(), None, uids)
    assert rewritten.identity != pool.identity
