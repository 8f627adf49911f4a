"""A run from end to end, called from Python."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import action100m
from action100m.config import Config, CutConfig, ExportConfig, VideoConfig
from action100m.dataset.validate import validate
from action100m.errors import ConfigError, NothingToDoError, RunStoppedError, UsageError
from action100m.locks import locked
from action100m.report.of_run import report_run
from action100m.runs.discovery import local_videos
from action100m.runs.executors.local import run_stage
from action100m.runs.export import export_what_changed
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.progress import StageProgress
from action100m.runs.run import RunResult
from action100m.runs.segment_stage import open_segment_stage
from action100m.runs.settings import read_settings
from action100m.runs.states import State, find_states
from action100m.runs.status import describe_run
from action100m.schema import SCHEMA
from action100m.segmentation.stage import Segmenter
from synthetic import write_video


def run(
    videos: Path | list[Path], out: Path, config: Config | None = None, workers: int = 2
) -> tuple[RunResult, str]:
    """Run, and return the result and what was printed."""
    text = io.StringIO()
    inputs = videos if isinstance(videos, list) else [videos]
    result = action100m.run(
        inputs, out, config, workers=workers, console=Console(file=text, width=200)
    )
    return result, text.getvalue()


def dataset(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "data").iterdir()}


def states(out: Path, config: Config) -> dict[str, State]:
    folder = RunFolder(out)
    with open_segment_stage(config, folder) as stage:
        return find_states(folder, Manifest(folder), stage.key)


@pytest.fixture
def own_videos(videos: Path, tmp_path: Path) -> Path:
    """A copy of the videos that a test may modify."""
    return Path(shutil.copytree(videos, tmp_path / "videos"))


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


def test_changing_the_cut_decodes_nothing(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    _, text = run(videos, tmp_path, Config(cut=CutConfig(min_duration=1.5)))
    assert "5 of 5 videos left unchanged" in text
    for nodes in pq.read_table(tmp_path / "data")["nodes"].to_pylist():
        assert all(node["end"] - node["start"] > 1.49 for node in nodes[1:])


def test_results_of_another_stride_are_kept_separately(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    other = Config(video=VideoConfig(stride=2))
    assert set(states(tmp_path, other).values()) == {State.STALE}
    run(videos, tmp_path, other)
    assert set(states(tmp_path, other).values()) == {State.DONE}
    assert set(states(tmp_path, Config()).values()) == {State.DONE}


def test_the_run_folder_remembers_its_configuration(videos: Path, tmp_path: Path) -> None:
    config = Config(video=VideoConfig(stride=2), cut=CutConfig(min_duration=1.0))
    run(videos, tmp_path, config)
    before = dataset(tmp_path)
    _, text = run([], tmp_path)
    assert "5 of 5 videos left unchanged" in text
    assert dataset(tmp_path) == before


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


def test_a_single_file_needs_no_list(videos: Path, tmp_path: Path) -> None:
    result = action100m.run(str(videos / "star.mp4"), tmp_path, console=Console(file=io.StringIO()))
    assert result.counts[State.DONE] == 1


def test_a_dataset_has_no_results_of_another_configuration(
    own_videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(own_videos, out)
    shutil.rmtree(own_videos)
    result, _ = run([], out, Config(video=VideoConfig(stride=2)))
    assert result.exit_code == 1
    assert pq.read_table(out / "data").num_rows == 0


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


def test_an_invalid_run_toml_is_replaced_by_a_configuration(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    for content, message in (
        ("[config.video]\nold_setting = 1\n", "old_setting"),
        ("", "has lost its settings.* --config FILE"),
        ("[stages.segment]\n", "has lost its settings.* --config FILE"),
    ):
        (tmp_path / "run.toml").write_text(content)
        with pytest.raises(ConfigError, match=message):
            run(videos, tmp_path)
        with pytest.raises(ConfigError, match=message):
            read_settings(RunFolder(tmp_path))
    assert "5 of 5 videos left unchanged" in run(videos, tmp_path, Config())[1]


def test_changed_settings_are_reported(videos: Path, tmp_path: Path) -> None:
    _, text = run(videos, tmp_path, Config(video=VideoConfig(stride=8)))
    assert "change" not in text
    _, text = run(videos, tmp_path, Config(cut=CutConfig(min_duration=1.0)))
    assert "video.stride: 8 before, 4 now" in text
    assert "cut.min_duration: 0.5 before, 1.0 now" in text
    assert text.count("Settings of") == 2


def test_a_run_with_outdated_settings_does_not_export(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    before = dataset(tmp_path)
    folder = RunFolder(tmp_path)
    settings = read_settings(folder)
    config = settings.config.model_copy(update={"cut": CutConfig(min_duration=1.5)})
    overtaken = replace(settings, config=config)
    assert export_what_changed(folder, overtaken, 1, lambda: None) is None
    assert dataset(tmp_path) == before


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
