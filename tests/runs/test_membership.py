"""Which videos a run covers: those it was ever given, except those taken out."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import action100m
from action100m.config import Config
from action100m.errors import ConfigError, NothingToDoError, UsageError
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.settings import read_settings
from command import call
from synthetic import write_video

STRIDE = Config.model_validate({"video": {"stride": 2}})


def uids(out: Path) -> list[str]:
    return pq.read_table(out / "data", columns=["video_uid"])["video_uid"].to_pylist()


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name in "ab":
        write_video(tmp_path / "videos" / f"{name}.mp4", [0.6])
    return tmp_path / "videos"


def test_a_run_that_is_refused_takes_no_video_in(two: Path, tmp_path: Path) -> None:
    server = {"engine": "openai", "model": "m", "urls": ["http://127.0.0.1:9/v1"]}
    model = {**server, "key_variable": "NO_SUCH_VARIABLE"}
    config = Config.model_validate({"captioning": {"segments": {"model": model}}})
    with pytest.raises(ConfigError):
        action100m.run(two, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    action100m.run(two / "a.mp4", tmp_path / "run")
    with pytest.raises(ConfigError):
        action100m.run(two, tmp_path / "run", config)
    action100m.run([], tmp_path / "run")
    assert uids(tmp_path / "run") == ["a"]


def test_a_run_killed_while_it_takes_videos_in_remembers_its_settings(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("action100m.runs.manifest._write_piece", die)
        with pytest.raises(KeyboardInterrupt):
            action100m.run(two, out, STRIDE)
    action100m.run(two, out)
    assert read_settings(RunFolder(out)).config.video.stride == 2


def test_a_removed_video_leaves_the_dataset_until_it_is_given_again(
    two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (two / "c.mp4").write_bytes(b"")
    assert call("run", two, "--out", out).returncode == 3
    answer = call("remove", out, "b", "c")
    assert answer.returncode == 0, answer.stderr
    assert "Removed 2" in answer.stdout
    assert [video.uid for video in Manifest(RunFolder(out)).videos] == ["a"]
    assert call("export", out).returncode == 0
    assert uids(out) == ["a"]
    assert call("run", "--out", out).returncode == 0
    answer = call("run", two / "b.mp4", "--out", out)
    assert "segment: 2 of 2 videos left unchanged" in answer.stderr
    assert uids(out) == ["a", "b"]


def test_the_last_video_can_be_removed_and_a_repeated_uid_counts_once(
    two: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    action100m.run(two, out)
    assert "Removed 2:" in call("remove", out, "b", "a", "b").stdout
    answer = call("export", out)
    assert answer.returncode == 0, answer.stderr
    assert uids(out) == []


def test_only_videos_of_the_run_can_be_removed(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    action100m.run(two, out)
    answer = call("remove", out, "a", "x")
    assert answer.returncode == 2
    assert "has no video x." in answer.stderr
    assert "has no video -x." in call("remove", out, "--", "-x").stderr
    assert call("remove", two, "a").returncode == 2
    manifest = Manifest(RunFolder(out))
    manifest.remove(["a", "a"])
    with pytest.raises(UsageError, match="has no video a"):
        manifest.remove(["a"])


def test_a_video_can_be_removed_that_a_machine_added_whose_clock_is_ahead(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 2**62)
        Manifest(folder).add([two / "a.mp4", two / "b.mp4"])
    Manifest(folder).remove(["b"])
    assert [video.uid for video in Manifest(folder).videos] == ["a"]


def test_videos_that_new_settings_cannot_reach_are_told(two: Path, tmp_path: Path) -> None:
    (two / "c.mp4").write_bytes(b"")
    action100m.run(two, tmp_path / "run")
    (two / "b.mp4").unlink()
    (two / "c.mp4").unlink()  # never done, so nothing is lost
    text = io.StringIO()
    action100m.run([], tmp_path / "run", STRIDE, console=Console(file=text, width=200))
    assert "1 video done with other settings cannot be done again" in text.getvalue()
    assert "left unchanged" not in text.getvalue()
    assert uids(tmp_path / "run") == ["a"]


def test_a_place_that_cannot_be_a_run_is_said(two: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "sub" / "run"):
        with pytest.raises(UsageError, match="/file is a file: a run needs a folder"):
            action100m.run(two, out)
    with pytest.raises(NothingToDoError, match="is no run yet"):
        action100m.run([], tmp_path / "new")
