"""Tables and sidecars of a run: which takes precedence, and what happens when they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import action100m
from action100m.config import MetadataConfig
from action100m.errors import ConfigError
from action100m.runs.sidecars.lookup import Sidecars
from command import call
from synthetic import write_video

ROWS: list[dict[str, Any]] = [
    {"path": "videos/a.mp4", "title": "Crane", "view_count": 7, "upload_date": "2020-01-31"},
    {"video_uid": "00123", "title": "Fold", "duration": 317.4, "like_count": None},
]


def write_table(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / f"table.{kind}"
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([dict.fromkeys(names) | row for row in rows]), file)
    else:
        cells = [["" if row.get(n) is None else str(row[n]) for n in names] for row in rows]
        file.write_text("\n".join(",".join(line) for line in [names, *cells]))
    return file


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_overrides_the_sidecar_field_by_field(kind: str, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    a, b = tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "b.mp4"
    a.with_suffix(".info.json").write_text(
        '{"id": "A", "title": "Kran", "description": "Fold it."}'
    )
    b.with_suffix(".info.json").write_text('{"id": "00123", "like_count": 3}')
    table = write_table(tmp_path, kind, ROWS)
    sidecars = Sidecars(MetadataConfig(table=str(table)))
    found, other, none = sidecars.metadata([a, b, tmp_path / "c.mp4"])
    assert (found.id, found.title, found.description) == ("A", "Crane", "Fold it.")
    assert (found.view_count, found.upload_date) == (7, "20200131")
    assert (other.id, other.title, other.duration, other.like_count) == ("00123", "Fold", 317, 3)
    assert none.title is None


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.jsonl", '{"title": "x"}', "row 1 names no video"),
        ("t.jsonl", '{"id": "x"}\n{"id": "x"}', "rows 1 and 2 both name x"),
        ("t.jsonl", '{"id": "x"}\nrubbish', "line 2 is not valid JSON"),
        ("t.jsonl", "[1]", "line 1 is not a JSON object"),
        ("t.csv", "a,b\n1,2\n", "its columns: a, b"),
        ("t.parquet", "PAR1", "cannot be read"),
        ("t.xlsx", "", r"\.csv, \.jsonl and \.parquet"),
    ],
)
def test_an_unusable_table_is_an_error(
    name: str, content: str, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        Sidecars(MetadataConfig(table=str(tmp_path / name)))
    with pytest.raises(ConfigError, match="cannot be read"):
        Sidecars(MetadataConfig(table=str(tmp_path / "nothing.csv")))


def test_unusable_values_of_a_row_are_reported(tmp_path: Path) -> None:
    table = write_table(tmp_path, "jsonl", [{"id": "a", "view_count": "many", "title": "Crane"}])
    [found] = Sidecars(MetadataConfig(table=str(table))).metadata([tmp_path / "a.mp4"])
    assert found.title == "Crane"
    assert "row 1: view_count is 'many', not a count" in found.problems[0]


def test_a_run_reads_transcripts_and_notices_changes(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / "crane.mp4", [2.0, 2.0])
    subtitles = video.with_name("crane.en.vtt")
    subtitles.write_text("WEBVTT\n\n00:00.500 --> 00:01.250\nFold <i>it</i>.\n")
    table = write_table(tmp_path, "csv", [{"path": "videos/crane.mp4", "title": "Crane"}])
    out = tmp_path / "run"
    assert call("run", video.parent, "--out", out, "--metadata", table).returncode == 0
    row = action100m.open(out)["crane"]
    assert row.metadata["title"] == "Crane"
    assert row.metadata["transcript"] == [{"time": "0.5", "text": "Fold it."}]
    assert call("validate", out).returncode == 0

    [part] = (out / "parts").rglob("*.parquet")
    made = part.stat().st_mtime_ns
    subtitles.write_text("WEBVTT\n\n00:00.500 --> 00:01.250\nUnfold it.\n")
    assert call("run", video.parent, "--out", out).returncode == 0  # the run knows its table
    row = action100m.open(out)["crane"]
    assert row.metadata["title"] == "Crane"
    assert row.metadata["transcript"] == [{"time": "0.5", "text": "Unfold it."}]
    assert part.stat().st_mtime_ns == made

    video.with_suffix(".info.json").write_text('{"view_count": "many"}')
    subtitles.with_name("crane.en.srt").write_text("rubbish")
    printed = call("segment", "--json", video)
    said = json.loads(printed.stdout)["metadata"]["transcript"]
    assert said == [{"time": "0.5", "text": "Unfold it."}]
    assert "view_count is 'many', not a count" in printed.stderr


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_misspelled_column_is_reported(kind: str, tmp_path: Path) -> None:
    row = {"path": "a.mp4", "titel": "Crane", "channel": "x"}
    table = write_table(tmp_path, kind, [row])
    sidecars = Sidecars(MetadataConfig(table=str(table)))
    doubt = f"{table}: the column 'titel' is not used. Did you mean 'title'?"
    assert sidecars.doubts([(tmp_path / "a.mp4", "a")]) == [doubt]
    assert sidecars.doubts([(tmp_path / "b.mp4", "b")]) == [
        doubt,
        f"{table}: no row names any of the videos.",
    ]


def test_a_row_names_a_video_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for row, video in (("real", "link"), ("link", "real")):
        table = write_table(tmp_path, "csv", [{"path": f"{row}/a.mp4", "title": "Crane"}])
        [found] = Sidecars(MetadataConfig(table=str(table))).metadata([tmp_path / video / "a.mp4"])
        assert found.title == "Crane"
