"""Run a stage on this machine, with one thread per worker.

Our own code releases the GIL or is cheap; video files, which are not trusted, are decoded in
processes that a thread can kill. Each worker commits its results, in any order. Runs on one folder
share its videos: each takes those that no other run has claimed.
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

from action100m.errors import (
    DISK_ERRORS,
    RunStoppedError,
    VideoError,
    as_run_stopped,
    is_shortage,
)
from action100m.inference import EngineStoppedError
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Video
from action100m.runs.progress import StageProgress
from action100m.runs.stages import Stage, Worker
from action100m.segmentation.stage import IncompleteVideoError
from action100m.trace import span

_ATTEMPTS = 3  # per video, if its failure may be transient: a killed decoder, a growing file
_POLL = 0.5  # seconds between checks of videos that another run has claimed
_LOOK = 5.0  # seconds between checks of all of them, so that the progress and time left are right
_TOO_MANY_OPEN = (errno.EMFILE, errno.ENFILE)
_GRACE = 10.0  # seconds for workers to notice that the run was interrupted

Item = TypeVar("Item")


@as_run_stopped()
def run_stage(
    stage: Stage, videos: list[Video], folder: RunFolder, workers: int, progress: StageProgress
) -> None:
    """Process every video until it is done or failed.

    Args:
        stage: stage to run.
        videos: videos to process, in any order.
        folder: where parts and failures are written.
        workers: number of videos to decode at once.
        progress: updated at every step.

    Raises:
        RunStoppedError: the run folder cannot be written or is damaged, the engine stopped, or no
            other process or thread can be started.
        KeyboardInterrupt: raised again once the workers have stopped.
    """
    count = max(1, min(stage.concurrency(workers), len(videos)))
    execution = _Execution(stage, videos, folder, progress)
    pool = [
        threading.Thread(target=execution.work, name=f"worker {k}", daemon=True)
        for k in range(count)
    ]
    try:
        for thread in pool:
            thread.start()
        for thread in pool:
            while thread.is_alive():
                thread.join(0.2)  # a join without a timeout would block Ctrl-C
    except BaseException:
        execution.stop.set()
        deadline = time.monotonic() + _GRACE
        for thread in filter(threading.Thread.is_alive, pool):
            thread.join(max(0.0, deadline - time.monotonic()))
        raise
    if execution.trouble is not None:
        raise execution.trouble


class _Execution:
    """State that the workers of one stage share."""

    def __init__(
        self,
        stage: Stage,
        videos: list[Video],
        folder: RunFolder,
        progress: StageProgress,
    ) -> None:
        self.stop = threading.Event()
        self.trouble: BaseException | None = None
        self._stage = stage
        self._folder = folder
        self._progress = progress
        # The largest first, so that no long video is left to run alone at the end.
        self._waiting = deque(sorted(videos, key=lambda video: (-video.size, video.uid)))
        self._elsewhere: deque[Video] = deque()
        self._next_look = time.monotonic() + _LOOK
        failed = folder.failed_keys(stage.key)
        self._before = {v.uid: self._attempts(v) for v in videos if v.key in failed}

    def work(self) -> None:
        """Process videos until none is left."""
        try:
            with as_run_stopped(), self._stage.open_worker() as worker:
                while (video := self._take(self._waiting)) is not None:
                    self._do(worker, video)
                    self._look_elsewhere()
                while (video := self._take(self._elsewhere)) is not None:
                    if not self._do(worker, video):
                        self.stop.wait(_POLL)
        except CancelledError:  # the run was interrupted, or an engine was closed
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
        """Process a video; return False if another run has claimed it, to look again later."""
        if self._found(video):
            return True
        with self._folder.claim(self._stage.key, video.key) as mine:
            if not mine:
                self._elsewhere.append(video)
            elif not self._found(video):
                self._do_claimed(worker, video)
        return mine

    def _look_elsewhere(self) -> None:
        """Count the videos that other runs have finished in the meantime."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        for _ in range(len(self._elsewhere)):
            video = self._take(self._elsewhere)
            if video is not None and not self._found(video):
                self._elsewhere.append(video)

    def _found(self, video: Video) -> bool:
        """Return whether another run has finished a video, and count it then."""
        exists = self._folder.part(self._stage.key, video.key).exists()
        if exists:
            self._progress.find(video.uid, failed=False)
        return exists

    def _attempts(self, video: Video) -> int:
        return self._folder.read_failure(self._stage.key, video.key).attempts

    def _do_claimed(self, worker: Worker, video: Video) -> None:
        if self._attempts(video) > self._before.get(video.uid, 0):  # another run has tried it
            self._progress.find(video.uid, failed=True)
            return
        key = self._stage.key
        try:
            part = self._attempt(worker, video)
        except (CancelledError, EngineStoppedError, RunStoppedError):
            raise
        except Exception as error:
            if _is_ours(error):
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
    """Return the error that stops the run after its engine stopped."""
    reason = str(error).rstrip(".")
    return RunStoppedError(
        f"{reason}. Finished work is kept: fix this, then run the same command again."
    )


def _is_ours(error: Exception) -> bool:
    """Return whether the video does not cause the error: the machine or the run folder does."""
    if is_shortage(error):
        return True
    if not isinstance(error, OSError) or error.errno == errno.EIO:  # the video's disk may be bad
        return False
    return error.errno in (*DISK_ERRORS, *_TOO_MANY_OPEN)


def _record(video: Video, error: Exception, attempts: int) -> dict[str, Any]:
    expected = isinstance(error, VideoError)
    return {
        "uid": video.uid,
        "path": str(video.path),
        "reason": str(error) if expected else f"{type(error).__name__}: {error}",
        "coverage": error.coverage if isinstance(error, IncompleteVideoError) else None,
        "attempts": attempts,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _explain(error: OSError, folder: RunFolder) -> str:
    if error.errno in _TOO_MANY_OPEN:
        return (
            "Too many files are open. Finished work is kept: raise `ulimit -n` or use fewer "
            "--workers, then run the same command again."
        )
    return (
        f"Cannot write to {error.filename or folder.root}: {error.strerror or error}. Finished "
        "work is kept: free space or fix the permissions, then run the same command again."
    )
