"""SQL sees the rows as they are, and reads only what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import action100m
from action100m import DatasetError
from action100m.dataset.sources import Source
from action100m.schema import SCHEMA
from rows import write_rows

pytest.importorskip("duckdb", reason="DuckDB is optional: pip install 'action100m[query]'")

Row = dict[str, Any]
VIDEOS = 12


def ask(where: Path, query: str) -> list[Row]:
    found: list[Row] = action100m.open(where).sql(query).to_pylist()
    return found


def test_segments_are_the_nodes_in_flat_columns(folder: Path, rows: list[Row]) -> None:
    names = ("node_id", "parent_id", "level", "start", "end")
    texts = ("plm_action", "plm_caption", "llama3_caption")
    expected = [
        {
            "video_uid": row["video_uid"],
            **{name: node[name] for name in (*names, *texts)},
            "summary_brief": gpt["summary"]["brief"],
            "summary_detailed": gpt["summary"]["detailed"],
            "action_brief": gpt["action"]["brief"],
            "action_detailed": gpt["action"]["detailed"],
            "actor": gpt["action"]["actor"],
        }
        for row in rows
        for node in row["nodes"]
        for gpt in [node["gpt"] or {"summary": NOTHING, "action": NOTHING}]
    ]
    assert ask(folder, "select * from segments") == expected


NOTHING = dict.fromkeys(("brief", "detailed", "actor"))


def test_videos_are_the_metadata(folder: Path, rows: list[Row]) -> None:
    found = ask(folder, "select * from videos")
    assert found == [{"video_uid": row["video_uid"], **row["metadata"]} for row in rows]


@pytest.mark.parametrize(
    ("condition", "meets"),
    [
        ("level = 3", lambda row, node: node["level"] == 3),
        ("llama3_caption is not null", lambda row, node: node["llama3_caption"] is not None),
        (
            "video_uid in ('video0002', 'video0007') and level < 2",
            lambda row, node: row["video_uid"] in ("video0002", "video0007") and node["level"] < 2,
        ),
        ('"end" - start > 10 or level = 1', lambda row, node: long(node) or node["level"] == 1),
        ("plm_action like '%node 7'", lambda row, node: node["plm_action"].endswith("node 7")),
    ],
)
def test_conditions_match_the_same_segments_as_in_python(
    condition: str, meets: Any, folder: Path, rows: list[Row]
) -> None:
    expected = sum(bool(meets(row, node)) for row in rows for node in row["nodes"])
    (found,) = ask(folder, f"select count(*) as n from segments where {condition}")
    assert found["n"] == expected


def long(node: Row) -> bool:
    return float(pa.scalar(node["end"] - node["start"], pa.float32()).as_py()) > 10


def test_views_can_be_joined(folder: Path, rows: list[Row]) -> None:
    query = """
        select title, count(*) as n from videos join segments using (video_uid)
        where video_uid = 'video0004' group by title
    """
    assert ask(folder, query) == [{"title": "Crane", "n": len(rows[4]["nodes"])}]


def test_other_fields_and_row_groups_are_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[list[str], object]] = []
    batches = Source.batches

    def watched(self: Source, fields: Any = None, uids: Any = None, groups: Any = None) -> Any:
        read.append((list(fields), groups))
        return batches(self, fields, uids, groups)

    monkeypatch.setattr(Source, "batches", watched)
    ask(folder, "select actor from segments where level = 3 and video_uid = 'video0001'")
    assert [set(fields) for fields, _ in read] == [{"nodes.gpt.action.actor", "nodes.level"}] * 3
    assert [groups for _, groups in read] == [{0}, set(), set()]


def test_single_video_json_and_shards_are_queried_together(rows: list[Row], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({n: [v] for n, v in rows[0].items()}))
    write_rows(tmp_path / "two.parquet", rows[1:3])
    data = action100m.open([tmp_path / "one.json", tmp_path / "two.parquet"])
    found = data.sql("select video_uid, count(*) as n from segments group by 1 order by 1")
    assert found.column("n").to_pylist() == [len(row["nodes"]) for row in rows[:3]]


def test_invalid_sql_is_an_error(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r'"nope" not found'):
        ask(folder, "select nope from segments")
    with pytest.raises(DatasetError, match="SQL: Parser Error"):
        ask(folder, "selec")


def test_unreadable_files_are_an_error_or_reported(rows: list[Row], tmp_path: Path) -> None:
    raw = write_rows(tmp_path / "a.parquet", rows).read_bytes()
    (tmp_path / "b.parquet").write_bytes(raw[:500])
    with pytest.raises(DatasetError, match=r"^\S*b\.parquet: It cannot be read as Parquet"):
        ask(tmp_path, "select count(*) from segments")
    errors: list[DatasetError] = []
    data = action100m.open(tmp_path, errors.append)
    assert data.sql("select count(*) as n from videos").to_pylist() == [{"n": VIDEOS}]
    assert len(errors) == 1


def test_extra_columns_of_a_file_do_not_affect_the_views(rows: list[Row], tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    for name, value in {"duration": 999, "level": 77, "title": 5}.items():
        table = table.append_column(name, pa.array([value] * len(rows)))
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    dataset = action100m.open(tmp_path)
    found = dataset.sql("select count(*) n from videos where duration < 100 and title = 'Crane'")
    assert found.column("n").to_pylist() == [len(rows)]
    level = sum(node["level"] == 1 for row in rows for node in row["nodes"])
    found = dataset.sql("select count(*) n from segments where level = 1")
    assert found.column("n").to_pylist() == [level]


def test_a_condition_leaves_out_unreadable_files(rows: list[Row], tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet", rows)
    (tmp_path / "b.parquet").write_bytes(b"torn")
    errors: list[DatasetError] = []
    uid = rows[0]["video_uid"]
    found = action100m.open(tmp_path, errors.append).sql(
        f"select count(*) n from videos where video_uid = '{uid}'"
    )
    assert found.column("n").to_pylist() == [1]
    assert len(errors) == 1
