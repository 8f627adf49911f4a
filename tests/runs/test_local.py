"""Runs on one folder share its videos, including those that fail."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from action100m.errors import RunStoppedError, VideoError
from action100m.runs.executors.local import run_stage
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video
from action100m.runs.progress import StageProgress
from action100m.runs.stages import Worker
from action100m.segmentation.stage import IncompleteVideoError
from action100m.video import DecodeReport, Progress


@dataclass
class StageOf:
    """A stage that processes each video by calling a function."""

    process: Callable[[Video, Progress], pa.Table]
    key: StageKey = field(default=StageKey("segment", "0"))

    def concurrency(self, workers: int) -> int:
        return workers

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        yield self


def quiet(videos: list[Video]) -> StageProgress:
    sizes = {video.uid: video.size for video in videos}
    return StageProgress("segment", sizes, Console(file=io.StringIO()))


def test_a_video_that_another_run_failed_is_not_retried(tmp_path: Path) -> None:
    folder, tried = RunFolder(tmp_path), []
    first, other, third = videos = [Video(uid, tmp_path, 9 - k, "") for k, uid in enumerate("abc")]

    def fail(video: Video, _: Progress) -> pa.Table:
        tried.append(video.uid)
        if video == first:
            attempts = folder.read_failure(stage.key, other.key).attempts
            folder.record_failure(stage.key, other.key, {"attempts": attempts + 1})
        raise VideoError("It is broken.")

    stage = StageOf(fail)
    for _ in range(2):  # in the second run, each has already failed once
        tried.clear()
        with quiet(videos) as progress:
            run_stage(stage, videos, folder, 1, progress)
        assert tried == [first.uid, third.uid]
        assert "3/3 videos, 3 failed" in progress.line()


def test_what_another_run_finishes_counts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("action100m.runs.executors.local._LOOK", 0.0)
    folder, lines, theirs = RunFolder(tmp_path), [], ExitStack()
    videos = [Video(uid, tmp_path, 100, "") for uid in "abc"]
    part = pa.table({"x": [1]})

    def process(video: Video, progress: Progress) -> pa.Table:
        if video == videos[1]:  # the other run finishes the first
            folder.commit_part(stage.key, videos[0].key, part)
            theirs.close()
        progress(10.0, 10.0)
        lines.append(shown.line().split(",")[0])
        return part

    stage = StageOf(process)
    with theirs, quiet(videos) as shown:
        assert theirs.enter_context(folder.claim(stage.key, videos[0].key))
        run_stage(stage, videos, folder, 1, shown)
    assert lines == ["segment: 0/3 videos", "segment: 2/3 videos"]
    assert "3/3 videos" in shown.line()


def test_videos_of_other_runs_count_in_the_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([0.0, 10.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    progress = StageProgress("segment", {"a": 100, "b": 300, "c": 400}, Console())
    progress.advance("a", 50.0, 50.0)
    progress.finish("a", failed=False)
    progress.find("b", failed=False)
    assert progress.line() == (
        "segment: 2/3 videos, 0.20 videos/s, 20.0 video-seconds/s, 0:10 left"
    )


def test_the_record_of_an_incomplete_video_has_its_coverage(tmp_path: Path) -> None:
    def give_up(_video: Video, _progress: Progress) -> pa.Table:
        raise IncompleteVideoError(DecodeReport(45, 60, 2.0, 0, 1, "torn"), 0.9)

    folder, videos, stage = RunFolder(tmp_path), [Video("a", tmp_path, 1, "")], StageOf(give_up)
    with quiet(videos) as progress:
        run_stage(stage, videos, folder, 1, progress)
    failure = folder.read_failure(stage.key, videos[0].key)
    assert (failure.coverage, failure.attempts) == (0.75, 1)
    assert failure.reason.startswith("Only 45 of 60 frames")


def test_a_run_without_threads_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    videos = [Video("a", tmp_path, 1, "")]
    progress = quiet(videos)
    stage = StageOf(lambda _video, _progress: pa.table({}))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RunStoppedError, match="ulimit -u"):
        run_stage(stage, videos, RunFolder(tmp_path), 1, progress)
