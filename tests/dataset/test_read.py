"""Published and own data are read the same way, only the requested parts; errors name the place."""

from __future__ import annotations

import gc
import itertools
import json
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import action100m
from action100m import DatasetError, UsageError
from action100m.dataset.select import Selection
from action100m.dataset.write import write_shards
from action100m.schema import METADATA, NODE, SCHEMA
from rows import as_python, batches, write_rows
from trees import random_tree

Row = dict[str, Any]
VIDEOS = 12


def test_rows_are_read_in_order_with_their_trees(folder: Path, rows: list[Row]) -> None:
    dataset = action100m.open(folder)
    assert len(dataset) == VIDEOS
    for video, row in zip(dataset, rows, strict=True):
        assert video.uid == row["video_uid"]
        assert video.metadata == row["metadata"]
        assert video.column("gpt.summary.brief").to_pylist() == [
            node["gpt"] and node["gpt"]["summary"]["brief"] for node in row["nodes"]
        ]
        ids = [node["node_id"] for node in row["nodes"]]
        parents = [ids.index(n["parent_id"]) if n["parent_id"] else -1 for n in row["nodes"]]
        assert video.tree.parent.tolist() == parents
        assert video.tree.start.tolist() == [node["start"] for node in row["nodes"]]


def test_the_tree_read_is_the_tree_written(folder: Path) -> None:
    written, read = random_tree(400, seed=2), action100m.open(folder)["video0002"].tree
    assert np.array_equal(read.parent, written.parent)
    assert np.array_equal(read.level, written.level)
    np.testing.assert_allclose(read.end, written.end, atol=0.005 + 1e-5)


@pytest.mark.parametrize("wrapped", [True, False])
def test_single_video_json_is_read_like_parquet(
    wrapped: bool, rows: list[Row], folder: Path, tmp_path: Path
) -> None:
    row = rows[1]
    file = tmp_path / "sample.json"
    file.write_text(json.dumps({name: [row[name]] if wrapped else row[name] for name in row}))
    video = action100m.open(file)[row["video_uid"]]
    assert video.markdown() == action100m.open(folder)[row["video_uid"]].markdown()


def test_globs_lists_and_run_folders_are_opened(folder: Path, tmp_path: Path) -> None:
    shards = sorted(folder.glob("*.parquet"))
    assert len(action100m.open(str(folder / "*-0000[01]-*"))) == 10
    assert len(action100m.open(str(folder.parent / f"{folder.name[:-1]}?"))) == VIDEOS
    assert len(action100m.open([shards[0], shards[2], shards[0]])) == 7
    (folder.parent / "run.toml").touch()
    assert len(action100m.open(folder.parent)) == VIDEOS
    (folder.parent / "run.toml").unlink()
    with pytest.raises(FileNotFoundError):
        action100m.open(tmp_path / "nothing-*.parquet")
    with pytest.raises(DatasetError, match="holds no"):
        action100m.open(tmp_path)


def test_an_fsspec_url_is_opened(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/published/data/{file.name}", file.read_bytes())
    memory.pipe("/published/data/.tmp-1.parquet", b"unfinished")
    dataset = action100m.open("memory://published/data")
    assert len(dataset) == VIDEOS
    assert dataset["video0007"].uid == "video0007"
    memory.pipe("/published/run.toml", b"")
    memory.pipe("/published/parts/part.parquet", b"of another format")
    assert len(action100m.open("memory://published")) == VIDEOS
    with pytest.raises(FileNotFoundError):
        action100m.open("memory://published/nothing")


def test_files_of_one_name_in_two_archives_are_both_read(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    urls = []
    for number, shard in enumerate(sorted(folder.iterdir())[:2]):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.write(shard, "data.parquet")
        urls.append(f"zip://data.parquet::{tmp_path / f'{number}.zip'}")
    dataset = action100m.open(urls)
    assert len(list(dataset)) == 10
    assert [source.name for source in dataset.sources] == urls


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_store_that_refuses_a_fork_is_opened_again(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

    class OneProcess(LocalFileSystem):  # type: ignore[misc]
        protocol = "oneprocess"

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.process = os.getpid()

        def _open(self, *arguments: Any, **options: Any) -> Any:
            assert self.process == os.getpid(), "used after a fork"
            return super()._open(*arguments, **options)

    fsspec.register_implementation("oneprocess", OneProcess, clobber=True)
    dataset = action100m.open(f"oneprocess://{folder}")
    pid = os.fork()
    if not pid:
        os._exit(0 if len(dataset) == VIDEOS else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(dataset) == VIDEOS


@given(wanted=st.sets(st.integers(0, VIDEOS + 3)))
def test_videos_are_found_by_their_uids(wanted: set[int], folder: Path) -> None:
    uids = [f"video{number:04}" for number in wanted]
    dataset = action100m.open(folder)
    assert {video.uid for video in dataset.videos(uids=uids)} == {u for u in uids if u in dataset}
    for source, batch in dataset.batches(["nodes.level"], uids):
        whole = pq.read_table(source.path).column("video_uid").to_pylist()
        assert batch.uid.to_pylist() == whole[batch.first_row : batch.first_row + len(batch)]


def test_no_footer_outlives_a_look_up(folder: Path) -> None:
    def footers() -> int:
        return sum(type(each) is pq.FileMetaData for each in gc.get_objects())

    dataset = action100m.open(folder)
    gc.collect()
    before = footers()
    gc.disable()
    try:
        for _ in range(5):
            assert dataset["video0007"].uid
        assert footers() <= before + 1
    finally:
        gc.enable()


def test_fields_that_are_null_everywhere_need_no_type(tmp_path: Path) -> None:
    plain = [
        {**row, "metadata": {**row["metadata"], "description": None, "transcript": None}}
        for row in as_python(batches(2))
    ]
    untyped = pa.Table.from_pylist(plain)
    assert pa.types.is_null(untyped.schema.field("nodes").type.value_type.field("gpt").type)
    coded = untyped.column("video_uid").dictionary_encode()
    pq.write_table(untyped.set_column(0, "video_uid", coded), tmp_path / "untyped.parquet")
    pq.write_table(pa.Table.from_pylist(plain, SCHEMA), tmp_path / "typed.parquet")
    names = ["untyped.parquet", "typed.parquet"]
    sources = [action100m.open(tmp_path / name).sources[0] for name in names]
    read, expected = (list(source.batches()) for source in sources)
    assert read == expected


def test_only_the_requested_fields_are_read(folder: Path) -> None:
    dataset = action100m.open(folder)
    for _, batch in dataset.batches(["nodes.level", "nodes.gpt.action.brief"]):
        assert batch.field("nodes.gpt").type.field("action").type.num_fields == 1
        with pytest.raises(KeyError):
            batch.field("nodes.plm_caption")
    with pytest.raises(DatasetError, match=r"no field nodes\.colour"):
        list(dataset.batches(["nodes.colour"]))


def test_fields_that_were_not_read_are_named(folder: Path) -> None:
    [video] = action100m.open(folder).videos(fields=["nodes.gpt.action"], uids=["video0002"])
    assert len(video.column("gpt.action.brief")) == len(video)
    [bare] = action100m.open(folder).videos(fields=["metadata"], uids=["video0002"])
    for ask, field in (
        (lambda: video.tree, "nodes"),
        (lambda: video.metadata, "metadata"),
        (lambda: video.column("plm_action"), "nodes.plm_action"),
        (lambda: video.column("gpt.summary.brief"), "nodes.gpt.summary.brief"),
        (lambda: video.column("gtp"), "nodes.gtp"),
        (lambda: video.column("level.x"), "nodes.level"),
        (lambda: len(bare), "nodes"),
    ):
        with pytest.raises(KeyError, match=f"no field {field}"):
            ask()
    with pytest.raises(TypeError, match="several strings"):
        next(action100m.open(folder).videos(fields="nodes"))


def test_a_dataset_says_whether_it_has_a_video(folder: Path) -> None:
    dataset = action100m.open(folder)
    assert "video0002" in dataset
    assert "video9999" not in dataset
    assert 2 not in dataset


def test_a_uid_reads_only_row_groups_that_may_contain_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    iterate = pq.ParquetFile.iter_batches

    def spy(self: Any, *args: Any, **options: Any) -> Any:
        read.extend(options["row_groups"])
        return iterate(self, *args, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert action100m.open(folder)["video0006"].uid == "video0006"
    assert len(read) == 1
    with pytest.raises(KeyError, match="no video zebra"):
        action100m.open(folder)["zebra"]
    assert len(read) == 1


def test_types_and_column_orders_of_other_writers_are_read(rows: list[Row], tmp_path: Path) -> None:
    large = pa.struct(
        [
            pa.field(f.name, pa.large_string() if pa.types.is_string(f.type) else f.type)
            for f in list(NODE)[::-1]
        ]
    )
    schema = pa.schema(
        [
            pa.field("extra", pa.int32()),
            pa.field("nodes", pa.large_list(pa.field("item", large))),
            pa.field("metadata", METADATA),
            pa.field("video_uid", pa.large_string()),
        ]
    )
    write_rows(tmp_path / "other.parquet", rows, schema)
    assert as_read(tmp_path / "other.parquet") == rows


def as_read(path: Path) -> list[Row]:
    found = []
    for source in action100m.open(path).sources:
        for _, batch in source.batches():
            assert isinstance(batch, pa.RecordBatch)
            assert batch.schema.equals(SCHEMA)
            found += batch.to_pylist()
    return found


def test_missing_columns_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DatasetError, match=r"other\.parquet: It has no video_uid, metadata\.title"):
        list(action100m.open(tmp_path))


BROKEN = {
    "is its own parent": (0, {"parent_id": "self"}, "must be a root"),
    "orphan": (5, {"parent_id": "00000000-0000-5000-8000-000000000000"}, "parent that is not"),
    "second root": (5, {"parent_id": None}, "must be a root"),
    "ancestor of its ancestor": (1, {"parent_id": "last"}, "before its parent"),
    "skips a level": (1, {"level": 3}, "one level below"),
    "reversed": (2, {"start": 9.0, "end": 3.0}, "end after it starts"),
    "not a number": (2, {"end": float("nan")}, "end after it starts"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_tree_is_reported_and_reading_continues(
    name: str, rows: list[Row], tmp_path: Path
) -> None:
    at, change, complaint = BROKEN[name]
    broken = json.loads(json.dumps(rows))
    nodes = broken[4]["nodes"]
    ids = {"self": nodes[at]["node_id"], "last": nodes[-1]["node_id"]}
    nodes[at] |= {key: ids.get(value, value) for key, value in change.items()}
    write_rows(tmp_path / "broken.parquet", broken)
    trees = 0
    for video in action100m.open(tmp_path):
        if video.uid != broken[4]["video_uid"]:
            trees += len(video.tree) > 0
            continue
        with pytest.raises(DatasetError, match=rf"row 4 \(video video0004\): Node .*{complaint}"):
            _ = video.tree
    assert trees == VIDEOS - 1


def test_a_truncated_file_is_reported_and_reading_continues(folder: Path, tmp_path: Path) -> None:
    shards = sorted(folder.glob("*.parquet"))
    truncated = tmp_path / "a-truncated.parquet"
    truncated.write_bytes(shards[0].read_bytes()[:-20])
    spoilt = tmp_path / "b-spoilt.parquet"
    content = bytearray(shards[1].read_bytes())
    content[200:4000] = bytes(3800)
    spoilt.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a-truncated\.parquet"):
        list(action100m.open([truncated, shards[2]]))
    errors: list[DatasetError] = []
    dataset = action100m.open([truncated, spoilt, shards[2]], on_error=errors.append)
    assert [video.uid for video in dataset] == ["video0010", "video0011"]
    assert len(dataset) == 7  # the number of videos in the truncated file is unknown
    assert len(list(dataset)) == 2
    assert "a-truncated.parquet" in str(errors[0])
    assert "b-spoilt.parquet: Row group 0 (from row 0)" in str(errors[1])


def test_markdown_shows_levels_and_escapes(rows: list[Row], tmp_path: Path) -> None:
    row = json.loads(json.dumps(rows[0]))
    row["metadata"]["title"] = "A *crane*\n# <script>"
    row["nodes"][0]["gpt"]["action"]["brief"] = "[fold](x)"
    write_rows(tmp_path / "one.parquet", [row])
    lines = next(iter(action100m.open(tmp_path))).markdown(level=1).splitlines()
    assert lines[0] == r"# A \*crane\* \# &lt;script\>"
    assert lines[2].endswith(r"s \[fold\]\(x\)")
    assert [line[:4] for line in lines[3:]] == ["  - ", "  - "]


def test_a_selection_follows_its_bounds(folder: Path) -> None:
    selection = Selection(min_level=2, max_level=4, min_duration=1.0, max_duration=9.5, leaf=False)
    for _, batch in action100m.open(folder).batches(selection.FIELDS):
        seconds = np.round(batch.end - batch.start, 2)
        inner = np.isin(np.arange(len(batch.row)), batch.parent)
        expected = [
            2 <= level <= 4 and 1.0 <= length <= 9.5 and has_children
            for level, length, has_children in zip(batch.level, seconds, inner, strict=True)
        ]
        assert selection.mask(batch).tolist() == expected
    with pytest.raises(UsageError, match="level of at least 3 and at most 1"):
        Selection(min_level=3, max_level=1)


def test_linked_folders_and_folders_named_as_files_are_walked(folder: Path, tmp_path: Path) -> None:
    shards = sorted(folder.glob("*.parquet"))
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "parts.parquet").mkdir(parents=True)
    (here / "parts.parquet" / "0.parquet").write_bytes(shards[0].read_bytes())
    there.mkdir()
    (there / "b.parquet").write_bytes(shards[1].read_bytes())
    (here / "linked").symlink_to(there)
    (there / "back").symlink_to(here)
    assert len(action100m.open(here)) == 10
    assert len(action100m.open([here, there, there / "b.parquet", here / "linked"])) == 10


@pytest.mark.parametrize("element", ["l", "item", "element", "array", "x y"])
def test_list_elements_may_have_any_name(element: str, rows: list[Row], tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    column = SCHEMA.get_field_index("nodes")
    kind = pa.list_(pa.field(element, NODE))
    path = tmp_path / "a.parquet"
    pq.write_table(
        table.set_column(column, pa.field("nodes", kind), table.column(column).cast(kind)),
        path,
        use_compliant_nested_type=False,
    )
    for video, row in zip(action100m.open(path), rows, strict=True):
        assert video.column("node_id").to_pylist() == [node["node_id"] for node in row["nodes"]]
        assert video.metadata == row["metadata"]


def test_extra_columns_do_not_affect_the_published_ones(rows: list[Row], tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    own = {
        "map": pa.array([[("a", 1)]] * VIDEOS, pa.map_(pa.string(), pa.int64())),
        "struct": pa.array([{"x": [1], "y": {"z": 2}}] * VIDEOS),
        "words": pa.array(["a"] * VIDEOS).dictionary_encode(),
    }
    for name, values in own.items():
        table = table.add_column(0, name, values)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    (video, *_) = action100m.open(path)
    assert video.column("end").to_pylist() == [node["end"] for node in rows[0]["nodes"]]
    pq.write_table(table.append_column("video_uid", table.column("video_uid")), path)
    with pytest.raises(DatasetError, match="video_uid twice"):
        list(action100m.open(path))


def test_json_nested_too_deeply_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"a\.json: It cannot be read"):
        list(action100m.open(tmp_path / "a.json"))


def test_a_single_frame_is_a_tree(rows: list[Row], tmp_path: Path) -> None:
    lone = {**rows[3], "nodes": [{**rows[3]["nodes"][0], "start": 0.0, "end": 0.0}]}
    (video,) = action100m.open(write_rows(tmp_path / "a.parquet", [lone]))
    assert len(video.tree) == 1
    assert "0.00-0.00 s" in video.markdown()


def test_a_dataset_can_be_read_while_it_is_replaced(tmp_path: Path) -> None:
    """On file systems where folders can exchange names in one step."""
    folder = tmp_path / "data"
    write_shards(batches(2), folder, 2, {}, 512)
    stop = threading.Event()

    def write() -> None:
        for size in itertools.cycle([5, 2]):
            write_shards(batches(size), folder, size, {}, 512)
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(folder.is_dir() for _ in range(20_000))
        assert len(action100m.open(folder).sources) == 1
    finally:
        stop.set()
        writer.join()
