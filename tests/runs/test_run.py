"""A run from end to end, called from Python."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import action100m
from action100m.config import Config, ExportConfig
from action100m.dataset.validate import validate
from action100m.errors import NothingToDoError, RunStoppedError
from action100m.locks import locked
from action100m.report.of_run import report_run
from action100m.runs.executors.local import run_stage
from action100m.runs.export import export_what_changed
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.progress import StageProgress
from action100m.runs.segment_stage import open_segment_stage
from action100m.runs.settings import read_settings
from action100m.runs.states import State
from action100m.runs.status import describe_run
from action100m.schema import SCHEMA
from action100m.segmentation.stage import Segmenter
from running import dataset, run, states
from synthetic import write_video


def test_a_folder_becomes_a_dataset(videos: Path, tmp_path: Path) -> None:
    result, _ = run(videos, tmp_path / "run")
    assert result.exit_code == 0
    table = pq.read_table(result.shards)
    assert table.schema.equals(SCHEMA)
    assert table["video_uid"].to_pylist() == ["boat", "crane", "hat", "star", "swan"]
    report = validate([tmp_path / "run" / "data"])
    assert not list(report.errors)
    boat = table["nodes"][0].as_py()
    inner = {node["start"] for node in boat} - {0.0}
    assert all(any(abs(start - cut) < 0.15 for start in inner) for cut in (2.0, 3.5))


def test_a_second_run_does_nothing_and_writes_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    before = dataset(tmp_path)
    part = next((tmp_path / "parts").rglob("*.parquet"))
    stamp = part.stat().st_mtime_ns
    result, text = run(videos, tmp_path)
    assert "5 of 5 videos left unchanged" in text
    assert result.exit_code == 0
    assert dataset(tmp_path) == before
    assert part.stat().st_mtime_ns == stamp


def test_the_order_and_the_number_of_runs_do_not_change_a_byte(
    videos: Path, tmp_path: Path
) -> None:
    run(videos, tmp_path / "at_once")
    for name in ("swan", "boat", "star"):
        run([videos / f"{name}.mp4"], tmp_path / "bit_by_bit")
    run(videos, tmp_path / "bit_by_bit")
    assert dataset(tmp_path / "at_once") == dataset(tmp_path / "bit_by_bit")


def test_a_broken_file_fails_alone_and_is_retried(own_videos: Path, tmp_path: Path) -> None:
    whole = (own_videos / "hat.mp4").read_bytes()
    (own_videos / "hat.mp4").write_bytes(b"not a video at all" * 100)
    out = tmp_path / "run"
    result, _ = run(own_videos, out)
    assert result.exit_code == 3
    assert result.counts[State.FAILED] == 1
    assert states(out, Config())["hat"] is State.FAILED
    record = json.loads(next((out / "failures").rglob("*.json")).read_text())
    assert record["uid"] == "hat"
    assert record["attempts"] == 1
    (own_videos / "hat.mp4").write_bytes(whole)
    result, _ = run(own_videos, out)
    assert result.exit_code == 0
    assert result.counts[State.DONE] == 5


def test_sidecars_name_the_video_and_fill_its_metadata(own_videos: Path, tmp_path: Path) -> None:
    sidecar = own_videos / "boat.info.json"
    fields = {"id": "aBc-123", "title": "Fold a boat", "view_count": 7, "duration": 6}
    sidecar.write_text(json.dumps({**fields, "upload_date": "20240229"}))
    out = tmp_path / "run"
    run(own_videos, out)
    rows = {row["video_uid"]: row["metadata"] for row in pq.read_table(out / "data").to_pylist()}
    assert rows["aBc-123"]["title"] == "Fold a boat"
    assert rows["aBc-123"]["upload_date"] == "20240229"
    assert rows["aBc-123"]["like_count"] is None
    assert rows["hat"]["title"] is None
    assert rows["hat"]["duration"] == 5
    sidecar.write_text(json.dumps({**fields, "view_count": 8}))
    _, text = run(own_videos, out)
    assert "5 of 5 videos left unchanged" in text
    rows = {row["video_uid"]: row["metadata"] for row in pq.read_table(out / "data").to_pylist()}
    assert rows["aBc-123"]["view_count"] == 8


def test_a_single_file_needs_no_list(videos: Path, tmp_path: Path) -> None:
    result = action100m.run(str(videos / "star.mp4"), tmp_path, console=Console(file=io.StringIO()))
    assert result.counts[State.DONE] == 1


def test_unusual_files_do_not_stop_a_run(own_videos: Path, tmp_path: Path) -> None:
    (own_videos / "nowhere.mp4").symlink_to(tmp_path / "no_such_file")
    (own_videos / f"{'x' * 250}.mp4").write_bytes((own_videos / "star.mp4").read_bytes())
    (own_videos / "LICENSE").write_text("You may copy this.\n" * 20)
    os.mkfifo(own_videos / "pipe")
    (own_videos / "loop.mp4").symlink_to(own_videos / "loop.mp4")
    result, _ = run(own_videos, tmp_path / "run")
    assert (result.counts[State.DONE], result.counts[State.FAILED]) == (6, 2)
    described = "\n".join(describe_run(tmp_path / "run"))
    assert "nowhere.mp4: The file does not exist" in described
    assert "loop.mp4" in described


def test_damaged_parts_are_named(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    damaged = sorted((tmp_path / "parts").rglob("*.parquet"))[:2]
    for part in damaged:
        part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(RunStoppedError, match=r"is damaged .* Also damaged: ") as caught:
        run(videos, tmp_path)
    assert all(str(part) in str(caught.value) for part in damaged)
    for part in damaged:
        part.unlink()
    result, _ = run(videos, tmp_path)
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b"{", b'{"reason": null, "coverage": "1", "attempts": "3"}']
)
def test_a_damaged_failure_record_does_not_stop_a_run(
    own_videos: Path, tmp_path: Path, content: bytes
) -> None:
    (own_videos / "hat.mp4").write_bytes(b"broken" * 100)
    out = tmp_path / "run"
    run(own_videos, out)
    next((out / "failures").rglob("*.json")).write_bytes(content)
    assert any("record of this failure cannot be read" in line for line in describe_run(out))
    report_run(RunFolder(out))
    result, _ = run(own_videos, out)
    assert result.exit_code == 3


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(NothingToDoError):
        run(tmp_path / "videos", tmp_path / "run")
    write_video(tmp_path / "a.mp4", [0.5])
    run(tmp_path / "a.mp4", tmp_path / "run")
    with pytest.raises(NothingToDoError, match="Without VIDEOS"):
        run(tmp_path / "videos", tmp_path / "run")


def test_a_dataset_that_cannot_be_replaced_is_refused_at_once(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").touch()
    with pytest.raises(FileExistsError, match=r"holds README\.md"):
        run(videos, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_embeddings_are_kept_on_request(videos: Path, tmp_path: Path) -> None:
    config = Config.model_validate({"segmentation": {"keep_embeddings": True}})
    run([videos / "crane.mp4"], tmp_path, config)
    row = pq.read_table(next((tmp_path / "parts").rglob("*.parquet"))).to_pylist()[0]
    rows = np.reshape(row["embeddings"], (len(row["times"]), -1)).astype(np.float32)
    dendrogram = action100m.ward(rows)
    assert dendrogram.children.ravel().tolist() == row["children"]
    assert dendrogram.heights.tolist() == row["heights"]


def test_a_dataset_is_rewritten_only_if_something_changed(own_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = Config(export=ExportConfig(rows_per_shard=1))

    def again(config: Config = small) -> bool:
        """Return whether a run writes the shards."""
        before = {path: path.stat().st_ino for path in (out / "data").iterdir()}
        result, _ = run([], out, config)
        return {path: path.stat().st_ino for path in result.shards} != before

    shards = run(own_videos, out, small)[0].shards
    held = dataset(out)
    assert not again()
    shards[0].unlink()
    assert again()
    shards[1].write_bytes(b"torn")
    assert again()
    assert dataset(out) == held
    assert not again()
    next((out / "parts").rglob("*.parquet")).unlink()
    assert again()
    assert again(Config())
    assert len(dataset(out)) == 1


def test_shards_do_not_depend_on_the_number_of_processes(own_videos: Path, tmp_path: Path) -> None:
    config, held = Config(export=ExportConfig(rows_per_shard=1)), []
    for workers in (1, 3):
        shards = run(own_videos, tmp_path / str(workers), config, workers=workers)[0].shards
        held.append([(shard.name, shard.read_bytes()) for shard in shards])
    assert held[0] == held[1]
    assert len(held[0]) > 2


def test_outputs_inside_the_video_folder_are_not_inputs(own_videos: Path, tmp_path: Path) -> None:
    inside = own_videos / "deep" / "run"
    run(own_videos, inside)
    for made, mark in (("preview", "fiftyone.yml"), ("clips", "clips.parquet")):
        (own_videos / made / "data").mkdir(parents=True)
        (own_videos / made / mark).touch()
        shutil.copy(own_videos / "boat.mp4", own_videos / made / "data" / "a.mp4")
    (own_videos / "clips" / "asked.json").touch()
    shutil.copy(own_videos / "boat.mp4", inside / "left.mp4")
    result, text = run(own_videos, tmp_path / "run")
    assert result.counts[State.DONE] == 5
    assert text.count("is not searched") == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left"), r"No space left\. Finished work is kept"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "process or thread"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "process or thread"),
        (RuntimeError("can't start new thread"), "process or thread"),
    ],
)
def test_a_full_disk_or_machine_does_not_fail_a_video(
    error: Exception,
    message: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Segmenter, "segment", full)
    with pytest.raises(RunStoppedError, match=message):
        run(videos, tmp_path)
    assert not list((tmp_path / "failures").rglob("*.json"))


def test_an_export_includes_videos_added_while_it_waited(videos: Path, tmp_path: Path) -> None:
    some = sorted(videos.iterdir())
    run(some[:3], tmp_path)
    folder = RunFolder(tmp_path)
    settings = read_settings(folder)
    waits = threading.Event()
    with locked(tmp_path / ".export.lock"):
        waiting = threading.Thread(
            target=export_what_changed, args=(folder, settings, 1, waits.set)
        )
        waiting.start()
        assert waits.wait(60)
        Manifest(folder).add(some[3:])
        with open_segment_stage(settings.config, folder) as stage, stage.loaded():
            done = folder.done_keys(stage.key)
            todo = [video for video in Manifest(folder).videos if video.key not in done]
            sizes = {video.uid: video.size for video in todo}
            with StageProgress("segment", sizes, Console(file=io.StringIO())) as progress:
                run_stage(stage, todo, folder, 1, progress)
    waiting.join()
    assert len(action100m.open(tmp_path)) == 5


@pytest.mark.parametrize(
    ("lock", "doing"), [(".manifest.lock", "reads the sidecars"), (".export.lock", "exports")]
)
def test_a_run_says_that_it_waits_for_another(
    lock: str, doing: str, videos: Path, tmp_path: Path
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    ours = threading.Thread(
        target=action100m.run, args=(videos / "star.mp4", tmp_path), kwargs={"console": console}
    )
    with locked(tmp_path / lock):
        ours.start()
        deadline = time.monotonic() + 60
        while "Waiting for another run that" not in text.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    ours.join()
    assert f"Waiting for another run that {doing}" in text.getvalue()
