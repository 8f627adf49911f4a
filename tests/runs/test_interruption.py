"""Runs that are killed, interrupted, out of space or concurrent lose nothing; no byte differs."""

from __future__ import annotations

import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from command import call, command
from synthetic import write_video

_KILLS = 12


@pytest.fixture(scope="session")
def longer_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos that take one worker a few seconds in total."""
    folder = tmp_path_factory.mktemp("longer")
    for seed in range(6):
        write_video(folder / f"v{seed}.mp4", [4.0, 7.0, 5.0], size=(640, 360), seed=seed)
    return folder


@pytest.fixture(scope="session")
def uninterrupted(
    longer_videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The dataset of an undisturbed run."""
    out = tmp_path_factory.mktemp("uninterrupted")
    assert call("run", longer_videos, "--out", out).returncode == 0
    return dataset(out)


def dataset(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "data").iterdir())}


def start(videos: Path, out: Path, *more: object) -> subprocess.Popen[bytes]:
    words = command("run", videos, "--out", out, "--workers", "1", *more)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_killed_run_resumes_to_the_same_bytes(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    moments = random.Random(20240229)
    for _ in range(_KILLS):
        process = start(longer_videos, tmp_path)
        try:
            process.wait(moments.uniform(0.3, 4.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert call("run", longer_videos, "--out", tmp_path).returncode == 0
    assert dataset(tmp_path) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_reports_it_and_keeps_finished_work(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    words = command("run", longer_videos, "--out", tmp_path, "--workers", "1")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while not list((tmp_path / "parts").rglob("[!.]*.parquet")):
            time.sleep(0.02)
        process.send_signal(number)
        _, text = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to resume" in text
    assert list((tmp_path / "parts").rglob("[!.]*.parquet"))
    assert call("run", longer_videos, "--out", tmp_path).returncode == 0
    assert dataset(tmp_path) == uninterrupted


def test_two_runs_on_one_folder_share_its_videos(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    traces = [tmp_path / "first.json", tmp_path / "second.json"]
    both = [start(longer_videos, tmp_path / "run", "--trace", trace) for trace in traces]
    assert [process.wait(120) for process in both] == [0, 0]
    assert dataset(tmp_path / "run") == uninterrupted
    done = [trace.read_text().count('"name": "commit"') for trace in traces]
    assert min(done) > 0
    assert sum(done) == 6  # no video was done twice
    assert not [path for path in (tmp_path / "run" / "claims").rglob("*") if path.is_file()]


def test_videos_added_by_a_later_run_are_not_lost(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    most = tmp_path / "most"
    most.mkdir()
    for number in range(5):
        (most / f"v{number}.mp4").symlink_to(longer_videos / f"v{number}.mp4")
    first = start(most, tmp_path / "run")
    while not any(path.is_file() for path in (tmp_path / "run" / "claims").rglob("*")):
        assert first.poll() is None
        time.sleep(0.01)
    (most / "v5.mp4").symlink_to(longer_videos / "v5.mp4")
    second = start(most / "v5.mp4", tmp_path / "run")
    assert first.wait(120) == second.wait(120) == 0
    assert dataset(tmp_path / "run") == uninterrupted


def test_a_run_takes_over_the_videos_of_a_killed_run(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    first = start(longer_videos, tmp_path)
    while not any(path.is_file() for path in (tmp_path / "claims").rglob("*")):
        assert first.poll() is None
        time.sleep(0.01)
    second = start(longer_videos, tmp_path)
    time.sleep(1)
    first.kill()
    assert second.wait(120) == 0
    first.wait()
    assert dataset(tmp_path) == uninterrupted


def test_a_full_disk_stops_the_run_and_loses_nothing(
    longer_videos: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    some = longer_videos / "v0.mp4"
    assert call("run", some, "--out", tmp_path).returncode == 0
    done = next((tmp_path / "parts").rglob("[!.]*.parquet"))
    limit = done.stat().st_size // 2

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = command("run", longer_videos, "--out", tmp_path)
    answer = subprocess.run(
        words, capture_output=True, text=True, timeout=120, preexec_fn=no_large_files, check=False
    )
    assert answer.returncode == 1, answer.stderr
    assert "Finished work is kept" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert done.exists()
    assert call("run", longer_videos, "--out", tmp_path).returncode == 0
    assert dataset(tmp_path) == uninterrupted
