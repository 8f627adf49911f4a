"""Which file is which video: files that change, move, are copied, or share a name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from action100m.config import Config
from action100m.errors import UsageError
from action100m.report.of_run import report_run
from action100m.runs.discovery import local_videos
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.states import State
from running import dataset, run, states
from synthetic import write_video


def test_a_changed_file_is_processed_again(own_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(own_videos, out)
    shutil.copy(own_videos / "crane.mp4", own_videos / "hat.mp4")
    Manifest(RunFolder(out)).add([own_videos / "hat.mp4"])
    assert states(out, Config())["hat"] is State.STALE
    run(own_videos, out)
    nodes = {row["video_uid"]: row["nodes"] for row in pq.read_table(out / "data").to_pylist()}
    times = {uid: [(node["start"], node["end"]) for node in nodes[uid]] for uid in nodes}
    assert times["hat"] == times["crane"]


def test_a_copied_folder_has_the_same_videos(videos: Path, tmp_path: Path) -> None:
    first = shutil.copytree(videos, tmp_path / "first")
    run(first, tmp_path / "run")
    shutil.rmtree(first)
    second = shutil.copytree(videos, tmp_path / "second")
    for path in second.iterdir():
        path.touch()
    _, text = run(second, tmp_path / "run")
    assert "5 of 5 videos left unchanged" in text


def test_a_file_that_was_removed_is_skipped(own_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (own_videos / "hat.mp4").write_bytes(b"broken" * 100)
    run(own_videos, out)
    (own_videos / "hat.mp4").unlink()
    (own_videos / "boat.mp4").unlink()
    result, _ = run([], out)
    assert result.exit_code == 0
    assert result.counts[State.SKIPPED] == 1
    assert states(out, Config())["boat"] is State.DONE
    assert "Its file does not exist." in report_run(RunFolder(out)).read_text("utf-8")


def test_a_sidecar_added_later_renames_the_video(own_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for name in ("abc", "def", None):
        sidecar = own_videos / "hat.info.json"
        if name:
            sidecar.write_text(json.dumps({"id": name}))
        else:
            sidecar.unlink()
        for _ in range(2):
            run(own_videos, out)
            pieces = len(list((out / "manifest").iterdir()))
        uids = pq.read_table(out / "data")["video_uid"].to_pylist()
        assert uids == sorted(["boat", "crane", name or "hat", "star", "swan"])
    assert pieces == 3


def test_duplicate_uids_are_refused(own_videos: Path, tmp_path: Path) -> None:
    (own_videos / "more").mkdir()
    shutil.copy(own_videos / "hat.mp4", own_videos / "more" / "hat.mp4")
    with pytest.raises(UsageError, match=r"videos/hat\.mp4.*videos/more/hat\.mp4"):
        run(own_videos, tmp_path / "run")


def test_files_that_swapped_names_keep_their_uids(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate("XYZ", 1):
        write_video(folder / f"{number}.mp4", [0.5], seed=number)
        (folder / f"{number}.info.json").write_text(json.dumps({"id": name}))
    run(folder, tmp_path / "run")
    for suffix in ("mp4", "info.json"):
        for old, new in ((1, 0), (2, 1), (3, 2), (0, 3)):
            (folder / f"{old}.{suffix}").rename(folder / f"{new}.{suffix}")
    result, _ = run(folder, tmp_path / "run")
    assert result.exit_code == 0
    found = {video.uid: video.path.name for video in Manifest(RunFolder(tmp_path / "run")).videos}
    assert found == {"X": "3.mp4", "Y": "1.mp4", "Z": "2.mp4"}


def test_copies_and_links_are_the_same_video(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "run")
    before = dataset(tmp_path / "run")
    shutil.copytree(videos, tmp_path / "copy")
    (tmp_path / "link").symlink_to(videos)
    for place in ("copy", "link"):
        _, text = run(tmp_path / place, tmp_path / "run")
        assert "5 of 5 videos left unchanged" in text
    assert dataset(tmp_path / "run") == before
    shutil.copytree(videos, tmp_path / "twice" / "a")
    shutil.copytree(videos, tmp_path / "twice" / "b")
    with pytest.raises(UsageError, match="Two files have the uid"):
        run(tmp_path / "twice", tmp_path / "run")


def test_without_inputs_changed_files_are_processed_again(own_videos: Path, tmp_path: Path) -> None:
    run(own_videos, tmp_path / "run")
    write_video(own_videos / "boat.mp4", [4.0, 2.0], seed=9)
    (own_videos / "hat.mp4").unlink()
    assert local_videos([tmp_path / "run"], []).keys() == {"crane", "star", "swan"}
    result, text = run([], tmp_path / "run")
    assert "segment: 1/1 videos" in text
    assert result.exit_code == 0


def test_another_file_of_the_same_name_and_size_is_reported(tmp_path: Path) -> None:
    files = [tmp_path / name / "a.mp4" for name in ("one", "other")]
    for seed, path in enumerate(files):
        path.parent.mkdir()
        write_video(path, [1.0 + seed], seed=seed)
    size = max(path.stat().st_size for path in files)
    for path in files:
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    run(files[0], tmp_path / "run")
    with pytest.raises(UsageError, match="Two files have the uid 'a'"):
        run(files[1], tmp_path / "run")
