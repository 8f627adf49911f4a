"""What an executor runs: stages, each a kind of worker that turns a video into a part."""

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
from action100m.video.frames import Progress


class Worker(Protocol):
    """Does one video after the other; used by one thread."""

    def process(self, video: Video, progress: Progress) -> pa.Table:
        """The video's part. `progress` may raise to give up.

        Raises:
            VideoError: the video cannot be done, with the reason.
            EngineStoppedError: no video can be done any more.
        """
        ...


class Stage(Protocol):
    """A step of the pipeline under one configuration."""

    @property
    def key(self) -> StageKey: ...

    def concurrency(self, workers: int) -> int:
        """Videos to have in hand at once, where `workers` are to be decoded at once."""
        ...

    def open_worker(self, threads: int) -> AbstractContextManager[Worker]:
        """A worker that may use so many threads."""
        ...


@contextmanager
def unchanged(video: Video, journal: Path) -> Iterator[Path]:
    """A block that reads a video's file; it gets a folder for what it has of the file as it is now.

    Args:
        video: whose file.
        journal: holds such folders; it is removed where the file turns out to be another.

    Raises:
        VideoError: the file changed meanwhile, or since it was found.
    """
    before = _stamp(video.path)
    yield journal / str(before[1])
    if before != _stamp(video.path) or before[0] != video.size:
        shutil.rmtree(journal, ignore_errors=True)
        raise VideoError(
            "The file changed while it was read: run the same command again once it is whole."
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; of a file that is gone, what no file has."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return -1, -1
    return state.st_size, state.st_mtime_ns
