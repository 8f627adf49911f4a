"""Sidecars as yt-dlp writes them, and invalid ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.runs.sidecars import content
from action100m.runs.sidecars.metadata import VideoMetadata, read_sidecar, sidecar_path, uid_of
from action100m.schema import METADATA

EMPTY = VideoMetadata()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return tmp_path / "How to fold a crane.v2.mp4"


def write(video: Path, content: object) -> VideoMetadata:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    sidecar_path(video).write_bytes(raw)
    return read_sidecar(video)


def test_sidecars_of_yt_dlp_are_read(video: Path) -> None:
    found = write(
        video,
        {
            "id": "dQw4w9WgXcQ",
            "_type": "video",
            "title": "Crane",
            "description": "Fold\nit.",
            "view_count": 1234,
            "like_count": None,
            "duration": 317,
            "upload_date": "20200131",
            "formats": [{"fps": 30.0}],
        },
    )
    assert found == VideoMetadata("dQw4w9WgXcQ", "Crane", "Fold\nit.", 1234, None, 317, "20200131")
    assert uid_of(video, found) == "dQw4w9WgXcQ"
    assert sidecar_path(video).name == "How to fold a crane.v2.info.json"


def test_a_missing_sidecar_is_not_a_problem(video: Path) -> None:
    assert read_sidecar(video) == EMPTY
    assert read_sidecar(video.with_name("x" * 250 + ".mp4")) == EMPTY
    assert uid_of(video, EMPTY) == "How to fold a crane.v2"


def test_the_files_duration_is_used_if_the_sidecar_has_none() -> None:
    assert EMPTY.row(345.55)["duration"] == 346
    assert VideoMetadata(duration=317).row(345.55)["duration"] == 317
    assert list(EMPTY.row(1.0)) == [field.name for field in METADATA]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b'{"id": "a"', "not valid JSON"),
        (b'{"id": "\xff\xfe"}', "not valid JSON"),
        (b'["id"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"_type": "playlist", "id": "PL1", "entries": []}', "playlist"),
        (b'{"a":' * 200_000, "nested too deeply"),
    ],
)
def test_a_broken_sidecar_is_a_problem_not_a_failure(
    video: Path, content: bytes, reason: str
) -> None:
    found = write(video, content)
    assert found == VideoMetadata(problems=found.problems)
    assert len(found.problems) == 1
    assert reason in found.problems[0]
    assert sidecar_path(video).name in found.problems[0]


def test_a_huge_sidecar_is_not_read(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_BYTES", 2**20)
    found = write(video, b'{"id": "a"}' + b" " * 2**20)
    assert found.id is None
    assert "larger than 1 MiB" in found.problems[0]


def test_only_regular_files_are_opened(video: Path) -> None:
    os.mkfifo(sidecar_path(video))
    assert "not a regular file" in read_sidecar(video).problems[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(video: Path, encoding: str) -> None:
    text = json.dumps({"title": "Журавль"}, ensure_ascii=False)
    assert write(video, text.encode(encoding)) == VideoMetadata(title="Журавль")


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (12.0, 12),
        ("12", 12),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
        (-1, None),
        (2**63, None),
        (10**400, None),
        (12.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("1.2M", None),
        ("٣", None),
        ([], None),
        ({"a": 1}, None),
    ],
)
def test_counts(video: Path, value: object, count: int | None) -> None:
    found = write(video, {"view_count": value, "title": "kept"})
    assert found.view_count == count
    assert found.title == "kept"
    assert len(found.problems) == (count is None)
    assert all("view_count" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(317, 317), (316.6, 317), ("345.55", 346), (-3, None), ("5:45", None), (1e300, None)],
)
def test_durations(video: Path, value: object, seconds: int | None) -> None:
    assert write(video, {"duration": value}).duration == seconds


@pytest.mark.parametrize(
    ("fields", "day"),
    [
        ({"upload_date": "2020-01-31"}, "20200131"),
        ({"upload_date": "2020-01-31T23:59:59Z"}, "20200131"),
        ({"upload_date": 20200131}, "20200131"),
        ({"timestamp": 1580428800}, "20200131"),
        ({"timestamp": 1580428799.5}, "20200130"),
        ({"release_date": "20200131"}, "20200131"),
        ({"upload_date": None, "release_timestamp": 1580428800}, "20200131"),
        ({"upload_date": "yesterday", "release_date": "20200131"}, "20200131"),
        ({"upload_date": "20200231"}, None),
        ({"upload_date": "2020-0131"}, None),
        ({"timestamp": 1e18}, None),
        ({"timestamp": "soon"}, None),
        ({}, None),
    ],
)
def test_dates(video: Path, fields: dict[str, object], day: str | None) -> None:
    assert write(video, fields).upload_date == day


@pytest.mark.parametrize("value", ["", "  ", 7, None, ["a"]])
def test_an_unusable_id_is_replaced_by_the_stem(video: Path, value: object) -> None:
    assert uid_of(video, write(video, {"id": value})) == "How to fold a crane.v2"


def test_a_stem_that_is_not_utf8_gives_a_uid_valid_in_arrow() -> None:
    uid = uid_of(Path(os.fsdecode(b"\xff crane.mp4")), EMPTY)
    assert uid == "\ufffd crane"
    assert pa.array([uid]).to_pylist() == [uid]


def test_lone_surrogates_become_replacement_characters(video: Path) -> None:
    raw = rb'{"id": "\ud83d", "title": "a\udc00b\ud83d\ude00", "description": 7}'
    found = write(video, raw)
    assert (found.id, found.title) == ("\ufffd", "a\ufffdb\U0001f600")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud83d", "a\udc00b", "20200131", "12"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_names = [field.name for field in METADATA]
_names += ["id", "_type", "timestamp", "release_date", "release_timestamp"]


@given(st.dictionaries(st.sampled_from(_names), _json))
def test_any_sidecar_is_read_without_errors(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, object]
) -> None:
    video = tmp_path_factory.getbasetemp() / "any.mp4"
    found = write(video, content)
    row = pa.array([found.row(1.0)], METADATA)
    row.validate(full=True)
    assert pa.array([uid_of(video, found), *found.problems]).null_count == 0
