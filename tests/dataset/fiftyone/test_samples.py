"""Samples have the fields of the card and no others, clipped, for any rows."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import action100m
from action100m.dataset.fiftyone.clock import FrameClock, clock_without_media
from action100m.dataset.fiftyone.names import media_path, uid_of_media
from action100m.dataset.fiftyone.read import import_fiftyone
from previews import annotated_rows, export_rows

# As on the dataset card.
PLAIN = {
    "title": "String",
    "description": "String",
    "full_video_url": "String",
    "upload_date": "DateTime",
    "view_count": "Int",
    "like_count": "Int",
    "full_video_duration": "Float",
    "transcript": "String",
    "tree_depth": "Int",
}
OF_SEGMENTS = {
    "gpt_summary_brief": ("summary", "brief"),
    "gpt_summary_detailed": ("summary", "detailed"),
    "gpt_action_brief": ("action", "brief"),
    "gpt_action_detailed": ("action", "detailed"),
    "gpt_action_actor": ("action", "actor"),
}
OF_FIFTYONE = {"_id", "filepath", "tags", "_media_type", "_rand", "metadata"}


def test_the_fields_are_those_of_the_dataset_card(tmp_path: Path) -> None:
    rows = annotated_rows()
    _, samples = export_rows(tmp_path, rows, url="https://example.org/{uid}")
    for sample in samples:
        assert sample.keys() == OF_FIFTYONE | PLAIN.keys() | OF_SEGMENTS.keys() | {
            "transcript_segments"
        }
    first = samples[0]
    assert first["title"] == "Crane"
    assert first["description"] is None
    assert first["full_video_url"] == "https://example.org/video0000"
    assert first["upload_date"] == {"$date": "2020-01-31T00:00:00Z"}
    assert (first["view_count"], first["like_count"]) == (7, None)
    assert first["full_video_duration"] == 53.0
    assert first["transcript"] == "first\nsecond"
    assert first["tree_depth"] == max(node["level"] for node in rows[0]["nodes"])
    document = json.loads((tmp_path / "out" / "metadata.json").read_text())
    declared = {field["name"]: field for field in document["sample_fields"]}
    for name, kind in PLAIN.items():
        assert declared[name]["ftype"] == f"fiftyone.core.fields.{kind}Field"
    assert declared.keys() - {"id", "_dataset_id", "created_at", "last_modified_at"} == (
        samples[0].keys() - {"_id"}
    )


def test_each_label_covers_its_segment(tmp_path: Path) -> None:
    rows, seconds = annotated_rows(), 20.0
    _, samples = export_rows(tmp_path, rows, seconds=seconds)
    for row, sample in zip(rows, samples, strict=True):
        media = sample["metadata"]
        frames, duration = media["total_frame_count"], media["duration"]
        assert duration == seconds
        for field, (part, name) in OF_SEGMENTS.items():
            expected = [
                {
                    "label": node["gpt"][part][name],
                    "support": [
                        1 + round(min(node[side], seconds) / duration * (frames - 1))
                        for side in ("start", "end")
                    ],
                    "node_id": node["node_id"],
                    "parent_id": node["parent_id"],
                    "level": node["level"],
                }
                for node in row["nodes"]
                if node["gpt"] and node["gpt"][part][name] != "N/A" and node["start"] < seconds
            ]
            assert expected
            found = sample[field]["detections"]
            assert [{key: d[key] for key in expected[0]} for d in found] == expected
        lines = sample["transcript_segments"]["detections"]
        assert [(d["label"], d["support"]) for d in lines] == [
            ("first", [151, 326]),
            ("second", [326, frames]),
        ]


def test_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        export_rows(tmp_path / name, annotated_rows())
        out = tmp_path / name / "out"
        contents.append({file.name: file.read_bytes() for file in out.iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 5


TIMES = st.floats(allow_nan=True, width=32) | st.floats(-10, 60, width=32)


@settings(max_examples=40)
@given(
    times=st.lists(st.tuples(TIMES, TIMES), max_size=12),
    spoken=st.lists(st.none() | st.text(max_size=5) | st.floats().map(str), max_size=8),
    seconds=st.floats(0.1, 100),
    same_id=st.booleans(),
)
def test_bad_times_and_ids_are_tolerated(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    times: list[tuple[float, float]],
    spoken: list[str | None],
    seconds: float,
    same_id: bool,
) -> None:
    row = annotated_rows(1)[0]
    for node, (start, end) in zip(row["nodes"], times, strict=False):
        node["start"], node["end"] = start, end
        node["node_id"] = row["nodes"][0]["node_id"] if same_id else node["node_id"]
    row["metadata"]["transcript"] = [{"time": time, "text": None} for time in spoken]
    _, samples = export_rows(tmp_path_factory.mktemp("bad"), [row], seconds=seconds)
    for sample in samples:
        frames = sample["metadata"]["total_frame_count"]
        for field in (*OF_SEGMENTS, "transcript_segments"):
            found = sample[field]["detections"]
            assert len({detection["_id"]["$oid"] for detection in found}) == len(found)
            for first, last in (detection["support"] for detection in found):
                assert 1 <= first <= last <= frames


def test_unusable_values_are_reported_and_the_rest_is_kept(tmp_path: Path) -> None:
    rows = annotated_rows(2)
    rows[0]["nodes"][0]["end"] = math.nan
    rows[0]["nodes"][1] |= {"start": 9.0, "end": 3.0}
    rows[0]["metadata"] |= {
        "upload_date": "20209999",
        "transcript": [{"time": "NaN", "text": "a"}, {"time": "2", "text": "b"}],
    }
    rows[1]["metadata"] = None
    rows[1]["nodes"][0]["gpt"]["summary"]["brief"] = None
    written, samples = export_rows(tmp_path, [*rows, rows[1]])
    assert written.problems == [
        "video0000: 2 segments without usable times left out.",
        "video0000: upload_date '20209999' is not a date and left out.",
        "video0000: 1 transcript line without a usable time left out.",
    ]
    assert written.left_out == ["video0001: An earlier row has the same uid."]
    assert samples[0]["upload_date"] is None
    assert samples[0]["transcript"] == "a\nb"
    assert [d["label"] for d in samples[0]["transcript_segments"]["detections"]] == ["b"]
    assert samples[1]["title"] is samples[1]["transcript_segments"] is None
    labelled = [
        {d["node_id"] for d in samples[1][field]["detections"]}
        for field in ("gpt_summary_brief", "gpt_summary_detailed")
    ]
    assert labelled[1] - labelled[0] == {rows[1]["nodes"][0]["node_id"]}


@given(uid=st.text(min_size=1, max_size=60))
def test_any_uid_maps_to_a_file_in_the_data_folder_and_back(uid: str) -> None:
    path = PurePosixPath(media_path(uid, 0, 1))
    assert path.parent == PurePosixPath("data")
    assert path.suffix == ".mp4"
    assert not path.name.startswith(".")
    assert "\0" not in str(path)
    assert uid_of_media(str(path)) == uid


def test_many_videos_are_split_into_folders_of_a_thousand() -> None:
    assert media_path("a", 9_999, 10_000) == "data/a.mp4"
    assert media_path("a", 12_345, 12_346) == "data/data_12/a.mp4"


def test_a_uid_that_cannot_be_a_file_name_is_left_out(tmp_path: Path) -> None:
    rows = annotated_rows(3)
    rows[0]["video_uid"], rows[1]["video_uid"] = "x" * 300, "折り鶴/é <b>"
    written, samples = export_rows(tmp_path, rows)
    assert "No file can be named" in written.left_out[0]
    assert [sample["filepath"] for sample in samples] == [
        "data/折り鶴=2Fé =3Cb=3E.mp4",
        "data/video0002.mp4",
    ]


@given(seconds=st.floats(0.01, 1e4), full=st.floats(0.01, 1e4))
def test_hundredths_of_a_second_are_exact_without_media(seconds: float, full: float) -> None:
    clock = clock_without_media(full, seconds)
    for time in (0.0, round(clock.duration / 3, 2), clock.duration):
        frame = int(clock.support([time], [time])[0, 0])
        assert round(float(clock.seconds(frame)), 2) == time


@given(frames=st.integers(2, 10_000), duration=st.floats(0.1, 1000), share=st.floats(0, 1))
def test_times_map_to_the_nearest_frame(frames: int, duration: float, share: float) -> None:
    clock = FrameClock(frames, duration)
    time = share * duration
    frame = int(clock.support([time], [time])[0, 0])
    assert abs(float(clock.seconds(frame)) - time) <= duration / (frames - 1) * 0.501


def test_a_folder_not_written_by_an_export_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="not written by an export to FiftyOne"):
        export_rows(tmp_path, annotated_rows(1))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_early_years_have_four_digits(tmp_path: Path) -> None:
    rows = annotated_rows(1)
    rows[0]["metadata"]["upload_date"] = "01230405"
    _, samples = export_rows(tmp_path, rows)
    assert samples[0]["upload_date"] == {"$date": "0123-04-05T00:00:00Z"}
    import_fiftyone(tmp_path / "out", tmp_path / "back")
    (video,) = action100m.open(tmp_path / "back")
    assert video.metadata["upload_date"] == "01230405"
