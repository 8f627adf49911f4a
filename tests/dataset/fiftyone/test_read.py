"""Parquet to FiftyOne and back: the result is the part of the original that the preview holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import action100m
from action100m import DatasetError
from action100m.dataset.fiftyone.read import import_fiftyone
from action100m.dataset.write import write_shards
from action100m.schema import SCHEMA
from previews import annotated_rows, export_rows
from rows import batches

Row = dict[str, Any]


def restricted(row: Row, seconds: float) -> Row:
    """The part of a row that the preview holds."""
    captions = dict.fromkeys(("plm_action", "plm_caption", "llama3_caption"))
    nodes = [
        node | captions | {"end": min(node["end"], seconds)}
        for node in row["nodes"]
        if node["gpt"] and node["start"] < seconds
    ]
    lines = [line for line in row["metadata"]["transcript"] if float(line["time"]) < seconds]
    return row | {"nodes": nodes, "metadata": row["metadata"] | {"transcript": lines}}


def read(folder: Path) -> list[Row]:
    table = pq.read_table(folder)
    assert table.schema.remove_metadata().equals(SCHEMA)
    return list(table.to_pylist())


@settings(max_examples=15)
@given(seconds=st.floats(1, 100).map(lambda value: round(value, 2)))
def test_an_import_without_media_loses_nothing_else(
    seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, rows = tmp_path_factory.mktemp("back"), annotated_rows()
    export_rows(folder, rows, seconds=seconds)
    import_fiftyone(folder / "out", folder / "back")
    for found, row in zip(read(folder / "back"), rows, strict=True):
        expected = restricted(row, seconds)
        for node in expected["nodes"] + found["nodes"]:
            node["start"], node["end"] = round(node["start"], 2), round(node["end"], 2)
        assert found["nodes"] == [n for n in expected["nodes"] if n["start"] < n["end"]]
        assert found["metadata"] == expected["metadata"]


def test_imported_trees_equal_the_originals(tmp_path: Path) -> None:
    rows = annotated_rows()
    export_rows(tmp_path, rows)
    import_fiftyone(tmp_path / "out", tmp_path / "back")
    for video, row in zip(action100m.open(tmp_path / "back"), rows, strict=True):
        annotated = {node["node_id"]: node for node in row["nodes"] if node["gpt"]}
        tree, ids = video.tree, video.column("node_id").to_pylist()
        assert ids == list(annotated)
        parents = [None if parent < 0 else ids[parent] for parent in tree.parent]
        assert parents == [node["parent_id"] for node in annotated.values()]
        assert tree.level.tolist() == [node["level"] for node in annotated.values()]


def test_provenance_survives_the_round_trip(tmp_path: Path) -> None:
    made_by = {"action100m.gpt.model": "a/model", "action100m.segment.encoder": "descriptor"}
    write_shards(batches(5, annotated=True), tmp_path / "data", 5, made_by, 2)
    from action100m.dataset.fiftyone.write import Export, export_fiftyone  # noqa: PLC0415

    export_fiftyone(action100m.open(tmp_path / "data"), tmp_path / "out", Export(None, 90.0))
    (shard,) = import_fiftyone(tmp_path / "out", tmp_path / "back")
    metadata = pq.read_schema(shard).metadata
    assert {key.decode(): value.decode() for key, value in metadata.items()} == made_by
    assert r"a/model" in (tmp_path / "out" / "README.md").read_text()


BROKEN = {
    "no field": (lambda sample: sample.pop("filepath"), "sample 1: It has no 'filepath'"),
    "no metadata": (lambda sample: sample.update(metadata=None), "sample 1: "),
    "no frames": (
        lambda sample: sample["metadata"].update(total_frame_count=0),
        "0 frames cannot last",
    ),
    "level": (
        lambda sample: sample["gpt_summary_brief"]["detections"][0].update(level="one"),
        "sample 1: ",
    ),
    "path": (lambda sample: sample.update(filepath=3), "sample 1: It is not as FiftyOne writes it"),
    "views": (lambda sample: sample.update(view_count=10**30), "sample 1: It is not as FiftyOne"),
    "twice": (lambda sample: sample.update(filepath="data/video0000.mp4"), "the uid video0000 too"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sample_is_named(name: str, tmp_path: Path) -> None:
    change, message = BROKEN[name]
    _, samples = export_rows(tmp_path, annotated_rows())
    change(samples[1])
    (tmp_path / "out" / "samples.json").write_text(json.dumps({"samples": samples}))
    with pytest.raises(DatasetError, match=message):
        import_fiftyone(tmp_path / "out", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("name", ["samples.json", "metadata.json"])
@pytest.mark.parametrize("keep", [0, 10, 14, 2000, -4])
def test_a_truncated_file_is_reported_as_incomplete(keep: int, name: str, tmp_path: Path) -> None:
    export_rows(tmp_path, annotated_rows())
    file = tmp_path / "out" / name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DatasetError, match="Not a complete FiftyOne"):
        import_fiftyone(tmp_path / "out", tmp_path / "back")


@pytest.mark.parametrize(
    "moment", ["2020-01-31T00:00:00.000Z", 1580428800000, {"$numberLong": "1580428800000"}]
)
def test_every_date_format_is_read(moment: object, tmp_path: Path) -> None:
    _, samples = export_rows(tmp_path, annotated_rows(1))
    samples[0]["upload_date"] = {"$date": moment}
    (tmp_path / "out" / "samples.json").write_text(json.dumps({"samples": samples}))
    import_fiftyone(tmp_path / "out", tmp_path / "back")
    assert read(tmp_path / "back")[0]["metadata"]["upload_date"] == "20200131"
