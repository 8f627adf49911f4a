"""Shards as pyarrow reads them back, and what remains when writing them fails."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action100m import Tree
from action100m.dataset.write import node_rows, video_row, write_shards
from action100m.schema import SCHEMA
from rows import annotate, as_python, batches
from trees import random_tree


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def neighbours(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_nodes_repeat_the_tree() -> None:
    tree = random_tree(400, seed=1)
    nodes = node_rows("crane", tree).to_pylist()
    assert len(nodes) == len(tree) > 20
    for n, node in enumerate(nodes):
        parent = tree.parent[n]
        assert uuid.UUID(node["node_id"]).version == 5
        assert node["parent_id"] == (None if parent < 0 else nodes[parent]["node_id"])
        assert node["level"] == tree.level[n]
        assert node["start"] == np.float32(round(tree.start[n], 2))
        assert node["end"] == np.float32(round(tree.end[n], 2))
        assert node["plm_action"] is node["plm_caption"] is node["llama3_caption"] is None
        assert node["gpt"] is None


def test_node_ids_depend_on_the_uid_and_the_times() -> None:
    ids = [
        set(node_rows(uid, random_tree(400, seed=1)).field("node_id").to_pylist()) for uid in "aba"
    ]
    assert ids[0] == ids[2]
    assert not ids[0] & ids[1]


def test_annotations_are_written_to_their_fields() -> None:
    tree = random_tree(400, seed=1)
    nodes = node_rows("crane", tree, annotate(tree))
    assert nodes.field("llama3_caption").is_valid().to_pylist() == tree.is_leaf.tolist()
    with pytest.raises(ValueError, match="no field named mood"):
        node_rows("crane", tree, {"mood": pa.nulls(len(tree))})
    with pytest.raises(ValueError, match="length"):
        node_rows("crane", tree, {"plm_action": pa.nulls(1, pa.string())})


def test_times_too_close_for_two_decimals_are_refused() -> None:
    tree = Tree(
        start=np.array([0, 0, 0.001]),
        end=np.array([0.002, 0.001, 0.002]),
        parent=np.array([-1, 0, 0]),
        level=np.array([0, 1, 1]),
    )
    with pytest.raises(ValueError, match="larger min_duration"):
        node_rows("crane", tree)


def test_files_match_the_published_format(folder: Path) -> None:
    files = write_shards(batches(12), folder, 12, {"encoder": "descriptor 1"}, rows_per_shard=7)
    assert [file.name for file in files] == [f"train-0000{n}-of-00002.parquet" for n in (0, 1)]
    assert sorted(folder.iterdir()) == files
    read = []
    for file, groups in zip(files, ([5, 2], [5]), strict=True):
        parquet = pq.ParquetFile(file)
        layout = [parquet.metadata.row_group(g) for g in range(parquet.num_row_groups)]
        assert [group.num_rows for group in layout] == groups
        assert {group.column(0).compression for group in layout} == {"SNAPPY"}
        assert parquet.metadata.metadata[b"encoder"] == b"descriptor 1"
        assert parquet.schema_arrow.remove_metadata() == SCHEMA
        assert "element" in str(parquet.schema)
        read += parquet.read().to_pylist()
    assert read == as_python(batches(12))
    assert read[3]["nodes"][0]["end"] == np.float32(0.4)


@pytest.mark.parametrize(
    ("total", "sizes"), [(0, [0]), (1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4])]
)
def test_rows_fill_the_shards_in_order(folder: Path, total: int, sizes: list[int]) -> None:
    files = write_shards(batches(total), folder, total, {}, rows_per_shard=4)
    assert [pq.read_metadata(file).num_rows for file in files] == sizes
    assert pq.read_schema(files[0]).remove_metadata() == SCHEMA


@settings(max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_bytes_depend_only_on_the_rows(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    total = sum(sizes)
    folder = tmp_path_factory.mktemp("run") / "data"
    table = pa.Table.from_batches(batches(total))
    pieces = np.split(np.arange(total), np.cumsum(sizes)[:-1])
    regrouped = [table.take(piece).combine_chunks().to_batches()[0] for piece in pieces]
    write_shards(regrouped, folder, total, {"b": "2", "a": "1"}, rows_per_shard=3)
    together = contents(folder)
    write_shards(batches(total), folder, total, {"a": "1", "b": "2"}, rows_per_shard=3)
    assert contents(folder) == together


def test_an_export_replaces_the_whole_folder(folder: Path) -> None:
    write_shards(batches(9), folder, 9, {}, rows_per_shard=2)
    write_shards(batches(2), folder, 2, {}, 512)
    assert [path.name for path in folder.iterdir()] == ["train-00000-of-00001.parquet"]
    assert neighbours(folder) == [".data.lock", "data"]


def reversed_rows() -> Iterator[pa.RecordBatch]:
    yield from reversed(list(batches(3)))


def broken_rows() -> Iterator[pa.RecordBatch]:
    yield from batches(2)
    raise OSError(errno.EIO, "a part cannot be read")


@pytest.mark.parametrize(
    ("rows", "total", "error", "message"),
    [
        (batches(3), 2, ValueError, "2 rows were announced, but there are more"),
        (batches(4), 2, ValueError, "2 rows were announced, but there are more"),
        (batches(1), 2, ValueError, "2 rows were announced, but only 1 came"),
        (reversed_rows(), 3, ValueError, "in the order of their uids: video0001 after video0002"),
        (broken_rows(), 3, OSError, "a part cannot be read$"),
    ],
)
def test_a_failed_export_changes_nothing(
    folder: Path, rows: Iterator[pa.RecordBatch], total: int, error: type[Exception], message: str
) -> None:
    write_shards(batches(1), folder, 1, {}, 512)
    before = contents(folder)
    with pytest.raises(error, match=message):
        write_shards(rows, folder, total, {}, rows_per_shard=1)
    assert contents(folder) == before
    assert neighbours(folder) == [".data.lock", "data"]


def test_a_full_disk_changes_nothing(folder: Path) -> None:
    """In a process of its own, whose files may not grow past 4 kB."""
    write_shards(batches(1), folder, 1, {}, 512)
    before = contents(folder)
    script = """
import resource, signal, sys
from pathlib import Path
from rows import batches
from action100m.dataset.write import write_shards
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    write_shards(batches(8), Path(sys.argv[1]), 8, {}, 512)
except OSError as error:
    print(error)
"""
    done = python(script, folder).communicate()
    assert "File too large" in done[0]
    assert "the dataset that was there before is unchanged" in done[0]
    assert done[1] == ""
    assert contents(folder) == before
    assert neighbours(folder) == [".data.lock", "data"]


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    support = str(Path(__file__).parents[1] / "support")
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": support},
        text=True,
    )


def test_leftovers_of_a_killed_export_are_removed(folder: Path) -> None:
    write_shards(batches(1), folder, 1, {}, 512)
    before = contents(folder)
    script = """
import os, signal, sys
from pathlib import Path
from rows import batches
from action100m.dataset.write import write_shards
def rows():
    yield from batches(7)
    os.kill(os.getpid(), signal.SIGKILL)
write_shards(rows(), Path(sys.argv[1]), 8, {}, rows_per_shard=2)
"""
    killed = python(script, folder)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert contents(folder) == before
    assert len(neighbours(folder)) == 3
    write_shards(batches(2), folder, 2, {}, 512)
    assert neighbours(folder) == [".data.lock", "data"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_export_killed_between_the_renames_is_repaired(folder: Path, fails: bool) -> None:
    write_shards(batches(1), folder, 1, {}, 512)
    before = contents(folder)
    folder.rename(folder.with_name(".data.0123abcd.old"))
    folder.with_name(".data.0123abcd.new").mkdir()
    if fails:
        with pytest.raises(OSError, match="a part"):
            write_shards(broken_rows(), folder, 2, {}, 512)
        assert contents(folder) == before
    else:
        write_shards(batches(2), folder, 2, {}, 512)
    assert neighbours(folder) == [".data.lock", "data"]


def test_exports_of_one_folder_take_turns(folder: Path) -> None:
    """The second waits for the first and cannot take its files for leftovers."""
    started, waiting = threading.Event(), threading.Event()

    def slow() -> Iterator[pa.RecordBatch]:
        started.set()
        waiting.wait(10)
        yield from batches(2)

    first = threading.Thread(target=write_shards, args=(slow(), folder, 2, {}, 512))
    first.start()
    started.wait(10)
    with folder.with_name(".data.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = threading.Thread(target=write_shards, args=(batches(3), folder, 3, {}, 512))
    second.start()
    waiting.set()
    first.join()
    second.join()
    assert pq.read_table(folder).num_rows == 3
    assert neighbours(folder) == [".data.lock", "data"]


def test_a_folder_not_written_by_an_export_is_not_changed(folder: Path) -> None:
    folder.mkdir()
    (folder / "holiday.mp4").touch()
    with pytest.raises(FileExistsError, match=r"holiday\.mp4, which no export wrote"):
        write_shards(batches(1), folder, 1, {}, 512)
    with pytest.raises(FileExistsError, match="is a file"):
        write_shards(batches(1), folder / "holiday.mp4", 1, {}, 512)
    assert [path.name for path in folder.iterdir()] == ["holiday.mp4"]


def test_a_linked_folder_stays_a_link(folder: Path) -> None:
    target = folder.with_name("disk") / "data"
    target.mkdir(parents=True)
    folder.symlink_to(target)
    write_shards(batches(1), folder, 1, {}, 512)
    assert folder.is_symlink()
    assert len(list(target.iterdir())) == 1


def test_a_row_of_another_schema_is_refused(folder: Path) -> None:
    row = video_row("a", {}, node_rows("a", random_tree(400, seed=1)))
    with pytest.raises(ValueError, match="schema"):
        write_shards([row.select(["video_uid"])], folder, 1, {}, 512)
