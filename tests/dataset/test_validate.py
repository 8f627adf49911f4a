"""Valid data has no errors; each error is found, named and located."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action100m import Tree, cut, ward
from action100m.dataset.findings import LISTED_PER_RULE
from action100m.dataset.validate import validate
from action100m.dataset.write import node_rows, video_row, write_shards
from action100m.schema import METADATA as METADATA_TYPE
from action100m.schema import NODE, SCHEMA
from rows import METADATA, annotate, as_python, batches, write_rows
from trees import random_tree

Row = dict[str, Any]
VIDEOS = 8
BROKEN = 5  # the row that the tests break, in the third row group


@pytest.fixture(scope="module")
def sound() -> list[Row]:
    return as_python(batches(VIDEOS, annotated=True))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_frames=st.integers(1, 300),
    frame_rate=st.floats(0.5, 60),
    plateau=st.integers(1, 40),
    annotated=st.booleans(),
)
def test_written_datasets_are_valid(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    seed: int,
    n_frames: int,
    frame_rate: float,
    plateau: int,
    annotated: bool,
) -> None:
    folder = tmp_path_factory.mktemp("run") / "data"
    generator = np.random.default_rng(seed)
    scenes = np.repeat(generator.normal(size=(n_frames, 3)), plateau, axis=0)[:n_frames]
    dendrogram = ward(scenes + 0.1 * generator.normal(size=scenes.shape))
    intervals = generator.uniform(0.5, 1.5, n_frames) / frame_rate
    tree = cut(dendrogram, np.concatenate([[0], np.cumsum(intervals)]))
    texts = annotate(tree) if annotated else None
    row = video_row("any", METADATA, node_rows("any", tree, texts))
    write_shards([row], folder, 1, {}, 512)
    report = validate([folder])
    assert report.errors == ()
    assert report.ok
    assert (report.files, report.videos, report.nodes) == (1, 1, len(tree))


@pytest.mark.parametrize("annotated", [False, True])
def test_a_set_of_shards_is_valid(tmp_path: Path, annotated: bool) -> None:
    write_shards(batches(VIDEOS, annotated=annotated), tmp_path / "data", VIDEOS, {}, 3)
    report = validate([tmp_path / "data"])
    assert report.ok
    assert not report.errors
    assert (report.files, report.videos) == (3, VIDEOS)


def last(row: Row) -> Row:
    """The last node, a leaf."""
    node: Row = row["nodes"][-1]
    return node


def leaf(row: Row, skip: int = 0) -> Row:
    """A leaf, counted from the back."""
    inner = {node["parent_id"] for node in row["nodes"]}
    return [node for node in row["nodes"] if node["node_id"] not in inner][-1 - skip]


def inner_node(row: Row, *, long: bool) -> Row:
    """An inner node of at least four seconds, or a shorter one; never the root."""
    parents = {node["parent_id"] for node in row["nodes"]}
    return next(
        node
        for node in row["nodes"][1:]
        if node["node_id"] in parents
        and (node["end"] - node["start"] >= (4.1 if long else 3.9)) == long
    )


def two_leaves(row: Row) -> tuple[Row, Row]:
    """Two neighbouring leaves under one parent."""
    inner = {node["parent_id"] for node in row["nodes"]}
    leaves = [node for node in row["nodes"] if node["node_id"] not in inner]
    return next((a, b) for a, b in pairwise(leaves) if a["parent_id"] == b["parent_id"])


def swap(row: Row) -> None:
    nodes = row["nodes"]
    nodes[1], nodes[2] = nodes[2], nodes[1]


def shorten(row: Row) -> None:
    left, right = two_leaves(row)
    left["end"] = right["start"] = np.float32(round(left["start"] + 0.3, 2))


def start_late(row: Row) -> None:
    for node in row["nodes"]:
        node["start"] = node["start"] or np.float32(0.02)


def transcript(*times: str | None) -> Callable[[Row], None]:
    lines = [{"time": time, "text": "fold"} for time in times]
    return lambda row: row["metadata"].update(transcript=lines)


BREAKS: dict[str, tuple[Callable[[Row], object], set[str]]] = {
    "no uid": (lambda row: row.update(video_uid=None), {"video_uid"}),
    "empty uid": (lambda row: row.update(video_uid=""), {"video_uid"}),
    "uid of another": (lambda row: row.update(video_uid="video0001"), {"video_uid"}),
    "date with dashes": (
        lambda row: row["metadata"].update(upload_date="2020-01-31"),
        {"upload_date"},
    ),
    "no such day": (lambda row: row["metadata"].update(upload_date="20200231"), {"upload_date"}),
    "short date": (lambda row: row["metadata"].update(upload_date="2020131"), {"upload_date"}),
    "long date": (lambda row: row["metadata"].update(upload_date="2" * 30), {"upload_date"}),
    "clock time": (transcript("0.0", "1:05"), {"transcript"}),
    "negative time": (transcript("-1"), {"transcript"}),
    "no time": (transcript(None), {"transcript"}),
    "times out of order": (transcript("9.5", "10", "9.75"), {"transcript"}),
    "null nodes": (lambda row: row.update(nodes=None), {"root"}),
    "no nodes": (lambda row: row.update(nodes=[]), {"root"}),
    "free id": (lambda row: last(row).update(node_id="node-1"), {"node_id"}),
    "id with a line break": (
        lambda row: last(row).update(node_id=last(row)["node_id"] + "\n"),
        {"node_id"},
    ),
    "random id": (
        lambda row: last(row).update(node_id=str(uuid.UUID(int=1, version=4))),
        {"node_id"},
    ),
    "null id": (lambda row: last(row).update(node_id=None), {"node_id"}),
    "id twice": (lambda row: last(row).update(node_id=leaf(row, 1)["node_id"]), {"node_id"}),
    "second root": (lambda row: last(row).update(parent_id=None), {"root", "binary"}),
    "no root": (
        lambda row: row["nodes"][0].update(parent_id=inner_node(row, long=True)["node_id"]),
        {"root", "level", "cycle", "binary"},
    ),
    "own parent": (
        lambda row: last(row).update(parent_id=last(row)["node_id"]),
        {"binary", "level", "cycle", "llama3_caption"},
    ),
    "root at level 1": (lambda row: row["nodes"][0].update(level=1), {"root", "level"}),
    "late root": (start_late, {"root"}),
    "orphan": (lambda row: last(row).update(parent_id=str(uuid.uuid4())), {"parent", "binary"}),
    "parent in another video": (
        lambda row: last(row).update(parent_id=as_python(batches(1))[0]["nodes"][0]["node_id"]),
        {"parent", "binary"},
    ),
    "level too deep": (lambda row: last(row).update(level=last(row)["level"] + 1), {"level"}),
    "null level": (lambda row: last(row).update(level=None), {"level"}),
    "null start": (lambda row: last(row).update(start=None), {"times"}),
    "endless": (lambda row: last(row).update(end=float("inf")), {"times"}),
    "no number": (lambda row: last(row).update(end=float("nan")), {"times"}),
    "unrounded": (
        lambda row: last(row).update(end=last(row)["end"] - 0.003),
        {"times", "tiling"},
    ),
    "backwards": (lambda row: last(row).update(end=last(row)["start"]), {"times", "tiling"}),
    "gap": (
        lambda row: last(row).update(start=np.float32(round(last(row)["start"] + 0.02, 2))),
        {"tiling"},
    ),
    "short segment": (shorten, {"duration"}),
    "swapped nodes": (swap, {"order"}),
    "leaf missing": (lambda row: row["nodes"].pop(), {"binary"}),
    "image caption on an inner node": (
        lambda row: row["nodes"][0].update(llama3_caption="paper"),
        {"llama3_caption"},
    ),
    "gpt on a leaf": (lambda row: last(row).update(gpt=row["nodes"][0]["gpt"]), {"gpt"}),
    "gpt on a short node": (
        lambda row: inner_node(row, long=False).update(gpt=row["nodes"][0]["gpt"]),
        {"gpt"},
    ),
    "gpt missing": (lambda row: inner_node(row, long=True).update(gpt=None), {"gpt"}),
    "gpt without summary": (lambda row: row["nodes"][0]["gpt"].update(summary=None), {"gpt"}),
    "an action that is described but not there": (
        lambda row: row["nodes"][0]["gpt"]["action"].update(brief="N/A", detailed="Fold it."),
        {"gpt"},
    ),
    "gpt without actor": (
        lambda row: row["nodes"][0]["gpt"]["action"].update(actor=None),
        {"gpt"},
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_violation_is_named_with_its_place(
    name: str, sound: list[Row], tmp_path: Path
) -> None:
    breaking, rules = BREAKS[name]
    rows = deepcopy(sound)
    breaking(rows[BROKEN])
    assert rows != sound
    path = write_rows(tmp_path / "broken.parquet", rows)
    report = validate([path])
    assert set(report.totals) == rules
    assert not report.ok
    for error in report.errors:
        assert (error.file, error.row) == (str(path), BROKEN)
        assert error.uid == rows[BROKEN]["video_uid"]
        assert f"row {BROKEN}" in str(error)
        if error.index is not None:
            assert error.node == rows[BROKEN]["nodes"][error.index]["node_id"]


def test_errors_name_the_node(sound: list[Row], tmp_path: Path) -> None:
    rows = deepcopy(sound)
    index = len(rows[BROKEN]["nodes"]) - 1
    last(rows[BROKEN]).update(level=-3)
    (error, *_) = validate([write_rows(tmp_path / "a.parquet", rows)]).errors
    assert (error.rule, error.index) == ("level", index)
    assert f"node {index} ({last(rows[BROKEN])['node_id']})" in str(error)


def without(*fields: str) -> Callable[[Row], None]:
    return lambda row: [node.update(dict.fromkeys(fields)) for node in row["nodes"]] and None


@pytest.mark.parametrize(
    "change",
    [
        without("gpt"),
        without("gpt", "llama3_caption"),
        without("gpt", "llama3_caption", "plm_action", "plm_caption"),
        lambda row: row.update(metadata=None),
        lambda row: row["metadata"].update({field.name: None for field in METADATA_TYPE}),
        transcript("0", "1.5", "1.5", "10"),
    ],
)
def test_optional_values_may_be_absent(
    change: Callable[[Row], None], sound: list[Row], tmp_path: Path
) -> None:
    rows = deepcopy(sound)
    change(rows[BROKEN])
    assert validate([write_rows(tmp_path / "a.parquet", rows)]).errors == ()


@pytest.mark.parametrize(
    ("length", "given", "leaf", "rules"),
    [
        (3.99, True, 1.0, set()),
        (3.98, True, 1.0, {"gpt"}),
        (4.0, False, 1.0, set()),
        (4.01, False, 1.0, {"gpt"}),
        (5.0, True, 0.49, set()),
        (5.0, True, 0.48, {"duration"}),
    ],
)
def test_bounds_allow_for_the_rounding_of_both_times(
    length: float, given: bool, leaf: float, rules: set[str], tmp_path: Path
) -> None:
    start, end = [0.0, 0.0, length, 0.0, leaf], [20.0, length, 20.0, leaf, length]
    parent, level = [-1, 0, 0, 1, 1], [0, 1, 1, 2, 2]
    tree = Tree(np.array(start), np.array(end), np.array(parent), np.array(level))
    (row,) = as_python(iter([video_row("any", METADATA, node_rows("any", tree, annotate(tree)))]))
    row["nodes"][1]["gpt"] = row["nodes"][0]["gpt"] if given else None
    report = validate([write_rows(tmp_path / "a.parquet", [row])])
    assert {error.rule for error in report.errors} == rules


def test_ids_are_unique_across_files(sound: list[Row], tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.parquet", sound)
    again = deepcopy(sound[6:])
    again[1]["video_uid"] = "another"
    second = write_rows(tmp_path / "b.parquet", again)
    report = validate([first, second])
    nodes = sum(len(row["nodes"]) for row in again)
    assert report.totals == {"video_uid": 1, "node_id": nodes}
    uid, node = report.errors[:2]
    assert (uid.file, uid.row, uid.uid) == (str(second), 0, "video0006")
    assert f"{first}, row 6" in uid.message
    assert (node.file, node.row, node.index) == (str(second), 0, 0)
    assert node.node == sound[6]["nodes"][0]["node_id"]
    assert f"{first}, row 6, node 0" in node.message
    assert validate([first, first, tmp_path / "a.parquet"]).ok


def test_the_list_of_errors_is_bounded(sound: list[Row], tmp_path: Path) -> None:
    rows = deepcopy(sound)
    for row in rows:
        for node in row["nodes"]:
            node["end"] += 0.003
    total = sum(len(row["nodes"]) for row in rows)
    report = validate([write_rows(tmp_path / "a.parquet", rows)])
    assert report.totals["times"] == total > LISTED_PER_RULE
    assert sum(error.rule == "times" for error in report.errors) == LISTED_PER_RULE


def nested(kind: pa.DataType, name: str, to: pa.Field) -> pa.DataType:
    """The struct with one field replaced."""
    return pa.struct([to if field.name == name else field for field in kind])


def nodes_of(kind: pa.DataType, element: str = "element") -> pa.Schema:
    return SCHEMA.set(2, pa.field("nodes", pa.list_(pa.field(element, kind))))


@pytest.mark.parametrize(
    ("schema", "differences"),
    [
        (SCHEMA.remove(1), ["metadata is missing."]),
        (SCHEMA.append(pa.field("fps", pa.float32())), ["fps is not a published field."]),
        (
            pa.schema([SCHEMA.field(n) for n in (0, 2, 1)]),
            ["columns: the order is video_uid, nodes, metadata, not video_uid, metadata, nodes."],
        ),
        (
            nodes_of(nested(NODE, "level", pa.field("level", pa.int32()))),
            ["nodes.element.level is int32, not int16."],
        ),
        (
            nodes_of(nested(NODE, "gpt", pa.field("gpt", pa.string()))),
            ["nodes.element.gpt is string, not struct."],
        ),
        (nodes_of(NODE, "item"), ["nodes: list elements are named item, not element."]),
        (
            SCHEMA.set(0, pa.field("video_uid", pa.string(), nullable=False)),
            ["video_uid is declared not null, but must be nullable."],
        ),
        (SCHEMA.set(2, pa.field("nodes", pa.string())), ["nodes is string, not list."]),
    ],
)
def test_differences_from_the_schema_are_named(
    schema: pa.Schema, differences: list[str], sound: list[Row], tmp_path: Path
) -> None:
    other = tmp_path / "a.parquet"
    pq.write_table(schema.empty_table(), other, use_compliant_nested_type=False)
    write_rows(tmp_path / "b.parquet", sound)
    report = validate([tmp_path])
    assert [error.message for error in report.errors] == differences
    assert {(error.file, error.rule) for error in report.errors} == {(str(other), "schema")}
    assert (report.files, report.videos) == (2, VIDEOS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_partial_file_is_reported_and_validation_continues(
    share: float, sound: list[Row], tmp_path: Path
) -> None:
    broken = write_rows(tmp_path / "a.parquet", sound)
    raw = broken.read_bytes()
    broken.write_bytes(raw[: int(len(raw) * share)])
    write_rows(tmp_path / "b.parquet", sound)
    report = validate([tmp_path])
    assert [(error.file, error.rule) for error in report.errors] == [(str(broken), "file")]
    assert "cannot be read as Parquet" in report.errors[0].message
    assert report.videos == VIDEOS


def test_a_single_video_as_json_is_checked_like_a_row(sound: list[Row], tmp_path: Path) -> None:
    sample, broken = tmp_path / "sample.json", tmp_path / "broken.json"
    sample.write_text(json.dumps({name: [value] for name, value in sound[0].items()}))
    assert validate([sample]).ok
    row = deepcopy(sound[BROKEN])
    last(row).update(end=float("nan"))
    broken.write_text(json.dumps(row))
    (tmp_path / "half.json").write_text(json.dumps(row)[:500])
    (tmp_path / "large.json").write_text(json.dumps({**row, "nodes": [{"level": 10**30}]}))
    report = validate([str(tmp_path / "*.json")])
    assert [(Path(error.file).name, error.rule) for error in report.errors] == [
        ("broken.json", "times"),
        ("half.json", "file"),
        ("large.json", "file"),
    ]
    assert f"node {len(row['nodes']) - 1} ({last(row)['node_id']})" in str(report.errors[0])
    assert "cannot be read as JSON" in report.errors[1].message
    assert (report.files, report.videos) == (4, 2)


def test_urls_are_checked_too(sound: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="fsspec comes with huggingface_hub, which is optional")
    rows = deepcopy(sound)
    last(rows[BROKEN]).update(level=-3)
    write_rows(tmp_path / "a.parquet", rows)
    (error, *_) = validate([f"file://{tmp_path}"]).errors
    assert (error.file, error.rule) == (f"file://{tmp_path}/a.parquet", "level")


def test_a_corrupt_byte_in_a_shard_is_found(tmp_path: Path) -> None:
    (path,) = write_shards(batches(VIDEOS), tmp_path / "data", VIDEOS, {}, 512)
    group = pq.read_metadata(path).row_group(1)
    raw = bytearray(path.read_bytes())
    uids = group.column(0)
    at = uids.dictionary_page_offset + uids.total_compressed_size - 1
    raw[at] ^= 1
    path.write_bytes(raw)
    report = validate([path])
    assert report.totals == {"file": 1}
    assert "Row group 1 (from row 5) cannot be read" in report.errors[0].message
    assert report.videos == 5


def test_text_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    wrong = pa.array([b"\xff"], pa.binary()).view(pa.string())
    columns = [wrong, pa.nulls(1, METADATA_TYPE), pa.nulls(1, SCHEMA.field("nodes").type)]
    pq.write_table(pa.table(columns, schema=SCHEMA), tmp_path / "a.parquet")
    report = validate([tmp_path])
    assert "UTF8" in report.errors[0].message


def test_missing_files_are_errors(sound: list[Row], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_rows(tmp_path / "train-00001-of-00003.parquet", sound)
    report = validate([tmp_path / "gone.parquet", tmp_path / "empty", tmp_path])
    assert report.totals == {"file": 3}
    messages = " ".join(error.message for error in report.errors)
    assert "The folder holds no *.parquet file." in messages
    assert "missing: 00000, 00002" in messages
    assert "No such file" in messages


def test_notes_measure_the_data(sound: list[Row], tmp_path: Path) -> None:
    notes = {
        note.what: note for note in validate([write_rows(tmp_path / "a.parquet", sound)]).notes
    }
    nodes = [node for row in sound for node in row["nodes"]]
    parents = {node["parent_id"] for node in nodes}
    leaves = [n["end"] - n["start"] for n in nodes if n["node_id"] not in parents]
    assert (
        notes["leaf length, median"].measured == f"{sorted(leaves)[(len(leaves) - 1) // 2]:.2f} s"
    )
    assert notes["leaf length, median"].published == "1.06 s"
    assert notes["leaf length, mean"].measured == f"{np.mean(leaves):.2f} s"
    assert notes["longest leaf"].measured == f"{max(leaves):.2f} s"
    share = 100 * np.mean(np.round(leaves, 2) < 3.5)
    assert notes["leaves under 3.5 s"].measured == f"{share:.1f} %"
    seconds = sum(row["nodes"][0]["end"] for row in sound)
    assert notes["nodes per minute of video"].measured == f"{60 * len(nodes) / seconds:.0f}"
    depths = [max(node["level"] for node in row["nodes"]) for row in sound]
    assert notes["deepest level of a video"].measured == f"{min(depths)} to {max(depths)}"
    missing = 1000 * (VIDEOS - 1) / (len(nodes) - 1)  # the lone root has not been through stage 2
    assert notes["nodes without plm_caption, per 1,000"].measured == f"{missing:.2f}"
    assert notes["leaves without llama3_caption, per 1,000"].measured == "0.00"
    assert notes['annotated nodes with action "N/A"'].measured == "100.00 %"
    assert notes["mean words of plm_action"].measured == "4.0"
    assert notes["mean words of gpt.summary.detailed"].measured == "3.0"


def test_words_are_counted_like_python_split(sound: list[Row], tmp_path: Path) -> None:
    texts = ["", " ", "one", " two  words\n", "é è\tê", None]
    rows = deepcopy(sound[:1])
    for node in rows[0]["nodes"]:
        node["plm_action"] = None
    for node, text in zip(rows[0]["nodes"], texts, strict=False):
        node["plm_action"] = text
    notes = {n.what: n for n in validate([write_rows(tmp_path / "a.parquet", rows)]).notes}
    assert notes["mean words of plm_action"].measured == f"{np.mean([0, 0, 1, 2, 3]):.1f}"


def test_absent_stages_are_noted(tmp_path: Path) -> None:
    write_shards([*batches(2)], tmp_path / "data", 2, {}, 512)
    notes = {note.what: str(note) for note in validate([tmp_path / "data"]).notes}
    assert notes["videos with gpt"] == "videos with gpt: 0 of 2 (published: all)"
    assert "mean words of plm_action" not in notes


def test_an_empty_dataset_is_valid(tmp_path: Path) -> None:
    write_shards([], tmp_path / "data", 0, {}, 512)
    report = validate([tmp_path / "data"])
    assert report.ok
    assert (report.videos, report.notes) == (0, ())


def test_random_test_trees_are_deep_enough() -> None:
    assert random_tree(400, seed=5).level.max() > 3


def test_an_extra_shard_is_reported(tmp_path: Path) -> None:
    paths = write_shards([*batches(4)], tmp_path / "data", 4, {}, 2)
    stray = paths[1].with_name("train-00002-of-00002.parquet")
    write_shards([*batches(5)][4:], tmp_path / "other", 1, {}, 512)[0].rename(stray)
    (error,) = validate([tmp_path / "data"]).errors
    assert "train-00002-of-00002.parquet exceeds the total in its name" in str(error)
