"""Hits are the same as those of a plain search of the rows, best first."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import action100m
from action100m.dataset.search import ByWords, Hit, search
from action100m.dataset.select import Selection
from action100m.dataset.words import Words
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.schema import SCHEMA
from command import call
from rows import as_python, batches, write_rows

Row = dict[str, Any]
EVERY = Selection()


def holds(query: str, text: str | None) -> bool:
    return len(Words(query).within(pa.array([text], pa.string()))) == 1


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("cut onion", "Cut the ONION, finely."),
        ('"the onion"', "cut the  onion"),
        ('"t joint"', "Weld the T-joint"),
        ("T-joint", "weld the t joint"),
        ("strasse", "Die Stra\u00dfe"),
        ("STRA\u00dfE", "strasse"),
        ("caf\u00e9", "Cafe\u0301 noir"),
        ("\uff26\uff4f\uff4c\uff44", "fold"),
        ("\u7d19", "\u7d19\u3092\u6298\u308b"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940 film"),
        ("c++", "write C++"),
    ],
)
def test_matching_words_are_found(query: str, text: str) -> None:
    assert holds(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("onion", "onions"),
        ("cut onion", "cut the leek"),
        ('"cut onion"', "cut the onion"),
        ("cafe", "caf\u00e9"),
        ("cafe", "cafe\u0301 noir"),
        ("a.b", "acb"),
        ("\u0939", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("fold", None),
        ("fold", ""),
    ],
)
def test_words_that_do_not_match_are_not_found(query: str, text: str | None) -> None:
    assert not holds(query, text)


@pytest.mark.parametrize("query", ["", "  ", '""', '"', "...", '"-"'])
def test_a_query_without_words_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match="no word"):
        Words(query)


@given(
    st.lists(st.text(st.sampled_from("ab "), max_size=12) | st.none(), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3),
)
def test_words_are_found_as_in_split_texts(texts: list[str | None], query: list[str]) -> None:
    found = Words(" ".join(query)).within(pa.array(texts, pa.string())).tolist()
    expected = [n for n, t in enumerate(texts) if t is not None and {*query} <= {*t.split()}]
    assert found == expected


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    rows = deepcopy(as_python(batches(8, annotated=True)))
    annotated = [node for node in rows[2]["nodes"] if node["gpt"]]
    for node in annotated[:3]:
        node["gpt"]["action"]["brief"] = "Fold the paper"
    annotated[3]["gpt"]["summary"]["detailed"] = "someone will fold some paper here"
    rows[1]["nodes"][0]["plm_caption"] = "paper, to fold"
    rows[6]["metadata"]["transcript"] = [
        {"time": "0.5", "text": "hello"},
        {"time": "7.25", "text": "now fold the paper"},
        {"time": None, "text": "fold paper never"},
        {"time": "9999", "text": "fold paper too late"},
    ]
    return rows


@pytest.fixture(scope="module")
def folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "a.parquet", rows[4:])
    write_rows(folder / "b.parquet", rows[:4])
    return folder


def find(folder: Path, query: str, selection: Selection = EVERY, limit: int = 20) -> list[Hit]:
    return action100m.open(folder).search(query, selection=selection, limit=limit)


def test_actions_rank_before_summaries_captions_and_transcripts(
    folder: Path, rows: list[Row]
) -> None:
    hits = find(folder, "paper fold")
    assert [hit.field for hit in hits] == [
        *["gpt.action.brief"] * 3,
        "gpt.summary.detailed",
        "plm_caption",
        "transcript",
    ]
    lasts = [hit.end - hit.start for hit in hits[:3]]
    assert lasts == sorted(lasts)
    nodes = {node["node_id"]: node for row in rows for node in row["nodes"]}
    for hit in hits:
        node = nodes[hit.node_id]
        assert (hit.level, hit.start) == (node["level"], pytest.approx(node["start"], abs=1e-4))
    assert hits[0].text == "Fold the paper"
    assert [hit.text for hit in find(folder, "paper fold", limit=2)] == ["Fold the paper"] * 2


def test_a_transcript_line_gives_the_deepest_selected_segment(
    folder: Path, rows: list[Row]
) -> None:
    holding = [n for n in rows[6]["nodes"] if n["start"] <= 7.25 < n["end"]]
    (hit,) = find(folder, "now fold")
    assert hit.node_id == max(holding, key=lambda node: node["level"])["node_id"]
    (hit,) = find(folder, "now fold", Selection(max_level=2))
    assert hit.node_id == next(n for n in holding if n["level"] == 2)["node_id"]
    assert find(folder, "now fold", Selection(min_duration=1e6)) == []


def test_levels_and_durations_narrow_the_search(folder: Path, rows: list[Row]) -> None:
    hits = find(folder, "words about node", Selection(2, 3, 5.0, 12.0), limit=10_000)
    expected = {
        node["node_id"]
        for row in rows
        for node in row["nodes"]
        if 2 <= node["level"] <= 3 and 5.0 <= round(node["end"] - node["start"], 2) <= 12.0
    }
    assert {hit.node_id for hit in hits} == expected
    assert len(hits) == len(expected)


def test_the_best_hits_of_all_files_are_kept(folder: Path) -> None:
    every = find(folder, "words about node", limit=10_000)
    assert find(folder, "words about node", limit=7) == every[:7]


@pytest.mark.parametrize(
    ("uid", "file", "link"),
    [
        ("dQw4w9WgXcQ", None, "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=12s"),
        ("dQw4w9WgXcQ", "/v/a.mp4", "file:///v/a.mp4#t=12.75,15"),
        ("my-clip", None, None),
        ("dQw4w9WgXc&", None, None),
    ],
)
def test_links_point_to_the_time_in_the_video(uid: str, file: str | None, link: str | None) -> None:
    assert Hit(uid, "id", 3, 12.75, 15.0, "plm_action", "cut").link(file) == link


def test_links_into_long_videos_keep_the_hundredths() -> None:
    hit = Hit("uid", "id", 3, 43_198.76, 43_199.5, "plm_action", "cut")
    assert hit.link("/v/a.mp4") == "file:///v/a.mp4#t=43198.76,43199.5"


def test_a_long_text_is_shown_around_the_match() -> None:
    text = f"{'so ' * 200}then they FOLD it {'so ' * 200}"
    line = Hit("u", "id", 3, 0.0, 1.0, "plm_caption", text).line(Words("fold"))
    assert re.search(r"plm_caption: ….*FOLD.*…$", line)
    assert len(line) < 230


def test_the_command_prints_lines_or_json(folder: Path, tmp_path: Path) -> None:
    result = call("search", "fold paper", folder, "--json", "--limit", "4", "--min-level", "1")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    expected = find(folder, "fold paper", Selection(min_level=1), limit=4)
    assert found == [{**hit.as_json(), "link": hit.link()} for hit in expected]
    shown = call("search", '"fold the paper"', folder).stdout
    assert "gpt.action.brief: Fold the paper" in shown
    assert call("search", "nowhere", folder).returncode == 1
    assert call("search", "...", folder).returncode == 2
    assert call("search", "fold", tmp_path / "gone.parquet").returncode == 2


def test_hits_of_a_run_link_to_its_video_files(rows: list[Row], tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "a #%" / f"{rows[2]['video_uid']}.mp4"
    file.parent.mkdir()
    (run / "data").mkdir(parents=True)
    (run / "run.toml").touch()
    file.write_bytes(b"a video")
    write_rows(run / "data" / "a.parquet", rows)
    Manifest(RunFolder(run)).add([file])
    glob = tmp_path / "r*"
    result = call("search", "fold the paper", glob, "--json")
    assert result.stdout == call("search", "fold the paper", run, "--json").stdout
    links = {hit["video_uid"]: hit["link"] for hit in map(json.loads, result.stdout.splitlines())}
    assert links.pop(rows[2]["video_uid"]).startswith(f"{file.as_uri()}#t=")
    assert links
    assert set(links.values()) == {None}


def test_results_contain_no_terminal_control_characters(rows: list[Row], tmp_path: Path) -> None:
    row = deepcopy(rows[2])
    row["nodes"][0]["plm_action"] = "wipe \x1b[2J\n the \u202eboard"
    result = call("search", "wipe", write_rows(tmp_path / "a.parquet", [row]))
    assert "wipe" in result.stdout
    assert not {"\x1b", "\u202e"} & set(result.stdout)


def test_results_do_not_depend_on_the_row_groups(rows: list[Row], tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{**row, "nodes": rows[3]["nodes"]} for row in rows], SCHEMA)
    found = set()
    for size in (1, 5, 64):
        path = tmp_path / f"{size}.parquet"
        pq.write_table(table, path, row_group_size=size)
        hits = search(action100m.open(path), ByWords(Words("words")), Selection(), 3)
        found.add(tuple(hit.video_uid for hit in hits))
    assert found == {tuple(row["video_uid"] for row in rows[:3])}


def test_a_phrase_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="too long to look for"):
        Words('"' + "word " * 50_000 + '"')
