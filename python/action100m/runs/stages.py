"""Interface of the stages that an executor runs: their workers turn videos into parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from action100m.errors import VideoError
from action100m.runs.folder import StageKey
from action100m.runs.manifest import Video
from action100m.video import Progress


class Worker(Protocol):
    """Processes one video after another; used by a single thread."""

    def process(self, video: Video, progress: Progress) -> pa.Table:
        """Return the video's part; `progress` may raise to abort.

        Raises:
            VideoError: the video cannot be processed; the message says why.
            EngineStoppedError: the engine can no longer answer, for any video.
        """
        ...


class Stage(Protocol):
    """A step of the pipeline under one configuration."""

    @property
    def key(self) -> StageKey: ...

    def concurrency(self, workers: int) -> int:
        """Return how many videos to process at once if `workers` are decoded at once."""
        ...

    def open_worker(self) -> AbstractContextManager[Worker]:
        """Open a worker, which processes one video after another."""
        ...


@contextmanager
def unchanged(video: Video, journal: Path) -> Iterator[Path]:
    """Check that a video's file does not change during a block that reads it.

    Args:
        video: video whose file is read.
        journal: removed if the file has changed; its subfolder for this version is yielded.

    Raises:
        VideoError: the file changed during the block, or since it was found.
    """
    before = _stamp(video.path)
    yield journal / str(before[1])
    if before != _stamp(video.path) or before[0] != video.size:
        shutil.rmtree(journal, ignore_errors=True)
        raise VideoError(
            "The file changed while it was read: run the same command again once it is whole."
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Return the size and the modification time; (-1, -1) if the file does not exist."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return -1, -1
    return state.st_size, state.st_mtime_ns
