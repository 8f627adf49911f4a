"""Runs on one folder share its videos, including those that fail."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
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
from action100m.video import Progress


@dataclass
class FailingStage:
    """Fails every video; with the first one, another run fails the second."""

    folder: RunFolder
    videos: list[Video]
    key: StageKey = field(default=StageKey("segment", "0"))
    tried: list[str] = field(default_factory=list)

    def concurrency(self, workers: int) -> int:
        return workers

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        yield self

    def process(self, video: Video, progress: Progress) -> pa.Table:
        self.tried.append(video.uid)
        other = self.videos[1].key
        attempts = self.folder.read_failure(self.key, other).attempts
        if video == self.videos[0]:
            self.folder.record_failure(self.key, other, {"attempts": attempts + 1})
        raise VideoError("It is broken.")


def test_a_video_that_another_run_failed_is_not_retried(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    videos = [Video(uid, tmp_path, 9 - k, "") for k, uid in enumerate("abc")]
    for _ in range(2):  # in the second run, each has already failed once
        stage = FailingStage(folder, videos)
        sizes = {video.uid: video.size for video in videos}
        with StageProgress("segment", sizes, Console(file=io.StringIO())) as progress:
            run_stage(stage, videos, folder, 1, progress)
        assert stage.tried == ["a", "c"]
        assert "3/3 videos, 3 failed" in progress.line()


@dataclass
class SharedStage:
    """While its second video is processed, another run finishes the first."""

    folder: RunFolder
    videos: list[Video]
    theirs: ExitStack
    progress: StageProgress
    key: StageKey = field(default=StageKey("segment", "0"))
    lines: list[str] = field(default_factory=list)

    def concurrency(self, workers: int) -> int:
        return workers

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        yield self

    def process(self, video: Video, progress: Progress) -> pa.Table:
        part = pa.table({"x": [1]})
        if video == self.videos[1]:
            self.folder.commit_part(self.key, self.videos[0].key, part)
            self.theirs.close()
        progress(10.0, 10.0)
        self.lines.append(self.progress.line())
        return part


def test_what_another_run_finishes_counts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("action100m.runs.executors.local._LOOK", 0.0)
    folder = RunFolder(tmp_path)
    videos = [Video(uid, tmp_path, 100, "") for uid in "abc"]
    progress = StageProgress("segment", dict.fromkeys("abc", 100), Console(file=io.StringIO()))
    with ExitStack() as theirs, progress:
        stage = SharedStage(folder, videos, theirs, progress)
        assert theirs.enter_context(folder.claim(stage.key, videos[0].key))
        run_stage(stage, videos, folder, 1, progress)
    assert [line.split(",")[0] for line in stage.lines] == [
        "segment: 0/3 videos",  # b; a is claimed
        "segment: 2/3 videos",  # c; a has been found
    ]
    assert "3/3 videos" in progress.line()


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


def test_a_run_without_threads_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    folder = RunFolder(tmp_path)
    stage = FailingStage(folder, [Video("a", tmp_path, 1, "")])
    progress = StageProgress("segment", {"a": 1}, Console(file=io.StringIO()))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RunStoppedError, match="ulimit -u"):
        run_stage(stage, stage.videos, folder, 1, progress)
