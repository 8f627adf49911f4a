"""Clips hold their segments' frames, none is cut twice, and no uid names a path."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import action100m
from action100m.dataset.clips.choice import Choice
from action100m.dataset.clips.write import Written, cut_clips
from action100m.dataset.select import Selection
from action100m.dataset.write import node_rows, video_row
from command import call, command
from footage import TIMES, write_footage
from rows import as_python, write_rows
from synthetic import read_numbers, write_video

Row = dict[str, Any]
UIDS = ["first", "second", "third"]
ABSENT = "There is no file with its uid, or the file is not the one that the run used."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.parquet and videos/ of three numbered videos."""
    place = tmp_path_factory.mktemp("footage")
    write_footage(place, UIDS)
    return place


def segments(place: Path) -> dict[tuple[str, str], Row]:
    rows = pq.read_table(place / "data.parquet").to_pylist()
    return {(row["video_uid"], node["node_id"]): node for row in rows for node in row["nodes"]}


def table(out: Path) -> list[Row]:
    found: list[Row] = pq.read_table(out / "clips.parquet").to_pylist()
    return found


def keys(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row["video_uid"], row["node_id"]) for row in rows]


def cut(place: Path, out: Path, least: float = 2.0, **options: Any) -> Written:
    videos = {path.stem: path for path in (place / "videos").iterdir()}
    choice = Choice(Selection(min_level=1, min_duration=least))
    return cut_clips(action100m.open(place / "data.parquet"), out, choice, videos, **options)


def numbers(clip: Path) -> list[int]:
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return read_numbers(np.stack(frames))


def test_every_segment_has_its_frames_and_texts(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("clips", place / "data.parquet", "--videos", place / "videos", "--out", out)
    wanted = segments(place)
    assert (done.returncode, done.stdout) == (0, f"{out}: {len(wanted)} clips, 0 left out\n")
    assert keys(table(out)) == list(wanted)
    rounded = np.round(TIMES, 2)  # as the times of segments are
    for row in table(out):
        node = wanted[row["video_uid"], row["node_id"]]
        start, end = round(node["start"], 2), round(node["end"], 2)
        inside = np.flatnonzero((rounded >= start) & (rounded < end)).tolist()
        shown = numbers(out / row["file"])
        assert set(shown) ^ set(inside) <= {
            k for k in range(len(TIMES)) if tied(TIMES[k], start, end)
        }
        assert len(shown) == row["frames"]
        assert (row["start"], row["end"], row["level"]) == (start, end, node["level"])
        assert row["clip_start"] == pytest.approx(TIMES[shown[0]])
        assert row["clip_end"] == pytest.approx(np.append(TIMES, row["clip_end"])[shown[-1] + 1])
        assert row["plm_action"] == node["plm_action"]
        assert row["summary_brief"] == (node["gpt"] and node["gpt"]["summary"]["brief"])


def tied(moment: float, *borders: float) -> bool:
    """Whether a time is half a hundredth from a border, where rounding may go either way."""
    return any(abs(abs(moment - border) - 0.005) < 1e-6 for border in borders)


def test_siblings_partition_the_frames_of_their_parent(place: Path, tmp_path: Path) -> None:
    cut(place, tmp_path / "out", 0.0)
    children: dict[str, list[int]] = {}
    shown = {
        row["node_id"]: numbers(tmp_path / "out" / row["file"]) for row in table(tmp_path / "out")
    }
    for (_, node_id), node in segments(place).items():
        if node["level"] > 1:
            children.setdefault(node["parent_id"], []).extend(shown[node_id])
    assert children
    for parent, frames in children.items():
        assert frames == shown.get(parent, frames)


def test_segments_are_chosen_by_level_duration_words_and_index(place: Path, tmp_path: Path) -> None:
    wanted = segments(place)
    index = tmp_path / "index.parquet"
    columns = {"video_uid": [u for u, _ in wanted], "node_id": [n for _, n in wanted]}
    draws = pa.array([k % 3 for k in range(len(wanted))], pa.int32())
    pq.write_table(pa.table({**columns, "weight": np.ones(len(wanted)), "draws": draws}), index)
    words = ["clips", place / "data.parquet", "--videos", place / "videos", "--copy"]
    for options, meant in [
        (["--max-level", "1"], lambda k, node: node["level"] <= 1),
        (["--min-duration", "4"], lambda k, node: round(node["end"] - node["start"], 2) >= 4),
        (["--words", '"about node 7"'], lambda k, node: node["plm_action"].endswith(" 7")),
        (["--index", index], lambda k, node: k % 3 > 0),
    ]:
        out = tmp_path / options[0]
        assert call(*words, *options, "--out", out).returncode == 0
        expected = [key for k, (key, node) in enumerate(wanted.items()) if meant(k, node)]
        assert keys(table(out)) == expected
        assert all(row["clip_start"] <= row["start"] + 0.005 for row in table(out))


def test_an_index_of_another_dataset_is_reported(place: Path, tmp_path: Path) -> None:
    (uid, node_id), *_ = segments(place)
    index, out = tmp_path / "index.parquet", tmp_path / "out"
    columns = {"video_uid": [uid, uid], "node_id": [node_id, "gone"], "weight": [0.5, 0.5]}
    pq.write_table(pa.table(columns), index)
    words = ["clips", place / "data.parquet", "--videos", place / "videos", "--out", out]
    answer = call(*words, "--copy", "--index", index)
    assert answer.returncode == 1
    assert "The dataset lacks 1 of the index's 2 segments" in answer.stderr
    assert keys(table(out)) == [(uid, node_id)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_are_read_by_webdataset(place: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    written = cut(place, tmp_path / "files")
    limit = 40_000
    for name, workers in [("one", 1), ("two", 2)]:
        again = cut(place, tmp_path / name, packed=True, workers=workers, shard_bytes=limit)
        assert again.clips == written.clips
    shards = sorted((tmp_path / "one").glob("*.tar"))
    assert len(shards) > 2
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "two" / shard.name).read_bytes()
    assert not list((tmp_path / "one").rglob("*.mp4"))
    samples = list(webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False))
    gc.collect()  # webdataset leaves the shards open
    files = table(tmp_path / "files")
    assert len(samples) == len(files)
    sizes: dict[str, list[int]] = {}
    for sample, row, ours in zip(samples, files, table(tmp_path / "one"), strict=True):
        described = json.loads(sample["json"])
        assert described | {"file": row["file"]} == row
        assert sample["mp4"] == (tmp_path / "files" / row["file"]).read_bytes()
        assert "." not in sample["__key__"]
        assert ours == row | {"file": Path(sample["__url__"]).name}
        sizes.setdefault(ours["file"], []).append(len(sample["mp4"]))
    assert all(sum(clips) <= limit or len(clips) == 1 for clips in sizes.values())


def test_later_videos_are_written_to_new_shards(place: Path, tmp_path: Path) -> None:
    for uid in UIDS:
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / f"{uid}.mkv").symlink_to(place / "videos" / f"{uid}.mkv")
    (tmp_path / "data.parquet").symlink_to(place / "data.parquet")
    late = tmp_path / "videos" / "first.mkv"
    late.rename(tmp_path / "late.mkv")
    out = tmp_path / "out"
    written = cut(tmp_path, out, packed=True)
    assert written.left_out == [f"first: {ABSENT}"]
    original = (out / "clips-000000.tar").read_bytes()
    (tmp_path / "late.mkv").rename(late)
    assert not cut(tmp_path, out, packed=True).left_out
    assert (out / "clips-000000.tar").read_bytes() == original
    assert {row["file"] for row in table(out) if row["video_uid"] == "first"} == {
        "clips-000001.tar"
    }
    assert len(set(keys(table(out)))) == len(table(out))
    cut(tmp_path, out, packed=True)
    assert len(list(out.glob("*.tar"))) == 2
    with pytest.raises(FileExistsError, match="--format webdataset, not no --format"):
        cut(tmp_path, out)
    late.unlink()
    late.write_bytes((place / "videos" / "first.mkv").read_bytes() + b"\0")
    with pytest.raises(FileExistsError, match="other clips or texts of first"):
        cut(tmp_path, out, packed=True)


@pytest.mark.parametrize("packed", [False, True])
def test_changed_texts_are_never_left_out(packed: bool, place: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").symlink_to(place / "videos")
    rows = pq.read_table(place / "data.parquet").to_pylist()
    write_rows(tmp_path / "data.parquet", rows)
    cut(tmp_path, tmp_path / "out", packed=packed)
    for node in rows[0]["nodes"]:
        node["plm_caption"] = "Somebody folds a sheet of paper."
    write_rows(tmp_path / "data.parquet", rows)
    if packed:
        with pytest.raises(FileExistsError, match="other clips or texts of first"):
            cut(tmp_path, tmp_path / "out", packed=True)
    else:
        cut(tmp_path, tmp_path / "out")
        assert table(tmp_path / "out")[0]["plm_caption"] == "Somebody folds a sheet of paper."


def test_existing_clips_are_kept_and_changed_ones_are_cut_again(
    place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cut(place, out)
    second = out / "clips" / UIDS[1]
    original = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    lost = next(second.glob("*.mp4"))
    lost.unlink()
    before = (out / "clips.parquet").read_bytes()
    cut(place, out)
    assert (out / "clips.parquet").read_bytes() == before
    for path, changed in original.items():
        assert (path.stat().st_mtime_ns == changed) == (path.parent != second)
    with pytest.raises(FileExistsError, match=r"--min-duration 2.0, not --min-duration 4.0"):
        cut(place, out, 4.0)
    assert (out / "clips.parquet").read_bytes() == before


@pytest.mark.parametrize("form", ["files", "webdataset"])
def test_a_killed_command_resumes(form: str, place: Path, tmp_path: Path) -> None:
    words = ["clips", place / "data.parquet", "--videos", place / "videos", "--workers", "1"]
    words += ["--format", form, "--out"]
    assert call(*words, tmp_path / "whole").returncode == 0
    out = tmp_path / "out"
    with subprocess.Popen(command(*words, out), start_new_session=True) as process:
        while not list(out.glob("clips/first/clips.json")):
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (out / "clips.parquet").exists()
    original = {path: path.stat().st_mtime_ns for path in (out / "clips" / "first").iterdir()}
    assert call(*words, out).returncode == 0
    assert not list(out.rglob(".tmp-*"))
    for path, changed in original.items():
        assert not path.exists() or path.stat().st_mtime_ns == changed
    names = [
        p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*") if p.is_file()
    ]
    assert sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file()) == sorted(names)
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_no_uid_can_escape_the_output_folder(tmp_path: Path) -> None:
    rows = write_footage(tmp_path, ["plain"])
    uids = ["../../evil", "a/b", ".hidden", "a.b", "..", "/etc/x", "per%cent", "x" * 300, ""]
    write_rows(tmp_path / "data.parquet", [rows[0] | {"video_uid": uid} for uid in uids])
    video = tmp_path / "videos" / "plain.mkv"
    out = tmp_path / "deep" / "out"
    dataset = action100m.open(tmp_path / "data.parquet")
    choice = Choice(Selection(max_level=1))
    written = cut_clips(dataset, out, choice, dict.fromkeys(uids, video), copy=True)
    assert {row["video_uid"] for row in table(out)} == set(uids[:-2])
    assert len(written.left_out) == 2
    clips = [(out / row["file"]).resolve() for row in table(out)]
    assert len(set(clips)) == len(clips)
    assert all(clip.parent.parent == (out / "clips").resolve() for clip in clips)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("copied", [False, True])
def test_a_video_of_one_frame_has_its_clip(copied: bool, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [0.04])
    nodes = node_rows("a", action100m.segment(video))
    write_rows(tmp_path / "data.parquet", as_python(iter([video_row("a", {}, nodes)])))
    dataset, out = action100m.open(tmp_path / "data.parquet"), tmp_path / "out"
    assert cut_clips(dataset, out, Choice(), {"a": video}, copy=copied).left_out == []
    assert [row["frames"] for row in table(out)] == [1]


def test_unavailable_clips_are_listed_with_their_reason(place: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "first.mkv").write_bytes(b"broken" * 100)
    write_video(videos / "second.mkv", [3.0])
    words = ["clips", place / "data.parquet", "--out", tmp_path / "out"]
    usage = call(*words)
    assert (usage.returncode, "--videos FOLDER" in usage.stderr) == (2, True)
    for _ in range(2):  # the second time nothing is cut, and the reasons stay
        some = call(*words, "--videos", videos)
        assert some.returncode == 3
        assert "Left out: first: Not a video file" in some.stderr
        assert "The video ends at 3.00 s, before the end of" in some.stderr
        assert f"Left out: third: {ABSENT}" in some.stderr
    assert {row["video_uid"] for row in table(tmp_path / "out")} == {"second"}
    assert all(row["end"] <= 3.5 for row in table(tmp_path / "out"))
    none = call(*words, "--videos", videos / "first.mkv")
    assert none.returncode == 1


@pytest.mark.parametrize("truncated", [False, True])
def test_a_missing_or_truncated_shard_is_reported(
    truncated: bool, place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    cut(place, out, packed=True)
    shard = out / "clips-000000.tar"
    if truncated:
        shard.write_bytes(shard.read_bytes()[:1500])
    else:
        shard.rename(tmp_path / "uploaded.tar")
    listed = (out / "clips.parquet").read_bytes()
    with pytest.raises(FileExistsError, match=r"clips-000000\.tar is missing or incomplete"):
        cut(place, out, packed=True)
    assert (out / "clips.parquet").read_bytes() == listed


def test_a_folder_without_clips_accepts_another_choice(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cut(place, out, least=1e6, packed=True).clips == 0
    assert cut(place, out, least=4.0, packed=True).clips
    listed = len(table(out))
    choice = Choice(Selection(min_level=1, min_duration=4.0))
    cut_clips(action100m.open(place / "data.parquet"), out, choice, {}, packed=True)
    with pytest.raises(FileExistsError, match="--min-duration"):
        cut(place, out, packed=True)
    assert len(table(out)) == listed


def test_a_folder_not_written_by_clips_is_not_changed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="not written by `clips`"):
        cut(place, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
