"""What an executor runs: stages, each a kind of worker that turns a video into a part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from action100m.config import Config, ConfigError
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video
from action100m.runs.settings import stage_key
from action100m.segmentation.encoders import Encoder, open_encoder
from action100m.segmentation.part import to_table
from action100m.segmentation.stage import Progress, Segmenter, segment_identity
from action100m.video.backends import require_backend
from action100m.video.frames import VideoError


class Worker(Protocol):
    """Does one video after the other; used by one thread."""

    def process(self, video: Video, progress: Progress) -> pa.Table:
        """The video's part. `progress` may raise to give up.

        Raises:
            VideoError: the video cannot be done, with the reason.
        """
        ...


class Stage(Protocol):
    """A step of the pipeline under one configuration."""

    @property
    def key(self) -> StageKey: ...

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its parts' content, as plain values."""
        ...

    def open_worker(self, threads: int) -> AbstractContextManager[Worker]:
        """A worker that may use so many threads."""
        ...


@contextmanager
def open_segment_stage(config: Config, folder: RunFolder) -> Iterator[Stage]:
    """Stage 1, its encoder loaded. Workers share the encoder, and decode each for themselves.

    Raises:
        ConfigError: the encoder or the decoder is not to be had here.
    """
    try:
        require_backend(config.video.decoder)
    except (ImportError, RuntimeError) as error:
        raise ConfigError(str(error)) from error
    with open_encoder(config.segmentation) as encoder:
        yield _SegmentStage(config, encoder, folder)


class _SegmentStage:
    def __init__(self, config: Config, encoder: Encoder, folder: RunFolder) -> None:
        self._config = config
        self._folder = folder
        self._encoder = encoder
        self.identity = segment_identity(config, encoder)
        self.key = stage_key("segment", self.identity)

    @contextmanager
    def open_worker(self, threads: int) -> Iterator[Worker]:
        with Segmenter(self._config, self._encoder, threads=threads) as segmenter:
            yield _SegmentWorker(segmenter, self._folder, self.key)


@dataclass(frozen=True)
class _SegmentWorker:
    segmenter: Segmenter
    folder: RunFolder
    stage: StageKey

    def process(self, video: Video, progress: Progress) -> pa.Table:
        before = _stamp(video.path)
        journal = self.folder.journal(self.stage, video.key)
        segmentation = self.segmenter.segment(video.path, progress, journal)
        if before != _stamp(video.path) or before[0] != video.size:
            raise VideoError(
                "The file changed while it was read: run the same command again once it is whole."
            )
        return to_table(segmentation)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; of a file that is gone, what no file has."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return -1, -1
    return state.st_size, state.st_mtime_ns
