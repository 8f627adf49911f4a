"""Runs a stage on this machine: a thread per worker, each with a decoding process of its own.

What is ours releases the GIL or is cheap; what cannot be trusted, the files, is read in processes
that a thread can kill. Results are committed by the worker that made them, in any order. Runs on
one folder share its videos: each takes those that no other has in hand.
"""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections import deque
from concurrent.futures import CancelledError
from datetime import datetime, timezone
from typing import Any, TypeVar

import pyarrow as pa

from action100m.config import available_cpus
from action100m.errors import DISK_ERRORS, RunStoppedError, VideoError
from action100m.inference import EngineStoppedError
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Video
from action100m.runs.progress import StageProgress
from action100m.runs.stages import Stage, Worker
from action100m.trace import span

_ATTEMPTS = 3  # at a video whose failure may pass: a decoder killed, a file still being written
_POLL = 0.5  # seconds between looks at what another run has in hand
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
# No fault of the video that met it. An error of input may well be: of the disk that holds it.
_OURS = {*DISK_ERRORS, *_TOO_MANY_OPEN} - {errno.EIO}
_GRACE = 10.0  # seconds for workers to notice that the run was interrupted

Item = TypeVar("Item")


def run_stage(
    stage: Stage, videos: list[Video], folder: RunFolder, workers: int, progress: StageProgress
) -> None:
    """Bring every video to done or failed.

    Args:
        stage: what to do.
        videos: those to do, in any order.
        folder: where parts and failures go.
        workers: how many videos to decode at once.
        progress: told of every step.

    Raises:
        RunStoppedError: the run folder cannot be written.
        KeyboardInterrupt: passed on, once the workers have stopped.
    """
    count = max(1, min(stage.concurrency(workers), len(videos)))
    execution = _Execution(
        stage, videos, folder, progress, threads=max(1, available_cpus() // count)
    )
    pool = [
        threading.Thread(target=execution.work, name=f"worker {k}", daemon=True)
        for k in range(count)
    ]
    for thread in pool:
        thread.start()
    try:
        for thread in pool:
            while thread.is_alive():
                thread.join(0.2)  # a bare join would not let Ctrl-C through
    except BaseException:
        execution.stop.set()
        deadline = time.monotonic() + _GRACE
        for thread in pool:
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if execution.trouble is not None:
        raise execution.trouble


class _Execution:
    """What the workers of one stage share."""

    def __init__(
        self,
        stage: Stage,
        videos: list[Video],
        folder: RunFolder,
        progress: StageProgress,
        *,
        threads: int,
    ) -> None:
        self.stop = threading.Event()
        self.trouble: BaseException | None = None
        self._stage = stage
        self._folder = folder
        self._progress = progress
        self._threads = threads
        # The longest first, so that none is left to run alone at the end.
        self._waiting = deque(sorted(videos, key=lambda video: (-video.size, video.uid)))
        self._elsewhere: deque[Video] = deque()
        failed = folder.failed_keys(stage.key)
        self._before = {v.uid: self._attempts(v) for v in videos if v.key in failed}

    def work(self) -> None:
        """Do videos until none is left."""
        try:
            with self._stage.open_worker(self._threads) as worker:
                while (video := self._take(self._waiting)) is not None:
                    self._do(worker, video)
                while (video := self._take(self._elsewhere)) is not None:
                    if not self._do(worker, video):
                        self.stop.wait(_POLL)
        except CancelledError:  # the run was interrupted, or an engine closed
            pass
        except OSError as error:
            self._give_up(RunStoppedError(_explain(error, self._folder)))
        except EngineStoppedError as error:
            self._give_up(stopped(error))
        except BaseException as error:  # a bug of ours must reach the main thread
            self._give_up(error)

    def _take(self, queue: deque[Item]) -> Item | None:
        if self.stop.is_set():
            return None
        try:
            return queue.popleft()
        except IndexError:
            return None

    def _give_up(self, error: BaseException) -> None:
        self.trouble = self.trouble or error
        self.stop.set()

    def _do(self, worker: Worker, video: Video) -> bool:
        """Whether no other run has the video in hand: that may have done it, failed, or died."""
        part = self._folder.part(self._stage.key, video.key)
        if part.exists():
            self._progress.finish(video.uid, failed=False)
            return True
        with self._folder.claim(self._stage.key, video.key) as mine:
            if not mine:
                self._elsewhere.append(video)
            elif part.exists():
                self._progress.finish(video.uid, failed=False)
            elif self._attempts(video) > self._before.get(video.uid, 0):
                self._progress.finish(video.uid, failed=True)
            else:
                self._do_claimed(worker, video)
        return mine

    def _attempts(self, video: Video) -> int:
        attempts: int = self._folder.read_failure(self._stage.key, video.key).get("attempts", 0)
        return attempts

    def _do_claimed(self, worker: Worker, video: Video) -> None:
        key = self._stage.key
        try:
            part = self._attempt(worker, video)
        except (CancelledError, EngineStoppedError, RunStoppedError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                raise
            record = _record(video, error, self._attempts(video) + 1)
            self._folder.record_failure(key, video.key, record)
            self._progress.finish(video.uid, failed=True)
            return
        with span("commit", videos=1):
            self._folder.commit_part(key, video.key, part)
        self._progress.finish(video.uid, failed=False)

    def _attempt(self, worker: Worker, video: Video) -> pa.Table:
        def advance(seconds: float, claimed: float | None) -> None:
            if self.stop.is_set():
                raise CancelledError
            self._progress.advance(video.uid, seconds, claimed)

        for _ in range(_ATTEMPTS - 1):
            try:
                return worker.process(video, advance)
            except VideoError as error:
                if not error.transient:
                    raise
                self._progress.retry(video.uid)
        return worker.process(video, advance)


def stopped(error: EngineStoppedError) -> RunStoppedError:
    """What a model that can answer nothing any more means for the run."""
    return RunStoppedError(
        f"{error} What is done is kept: run the same command again once it is mended."
    )


def _record(video: Video, error: Exception, attempts: int) -> dict[str, Any]:
    expected = isinstance(error, VideoError)
    return {
        "uid": video.uid,
        "path": str(video.path),
        "reason": str(error) if expected else f"{type(error).__name__}: {error}",
        "coverage": getattr(error, "coverage", None),
        "attempts": attempts,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _explain(error: OSError, folder: RunFolder) -> str:
    if error.errno in _TOO_MANY_OPEN:
        return (
            "Too many files are open. What is done is kept; raise `ulimit -n` or take fewer "
            "--workers, then run the same command again."
        )
    return (
        f"Cannot write to {error.filename or folder.root}: {error.strerror or error}. What is done "
        "is kept; make room or mend access, then run the same command again."
    )
