"""Stage 2 in a run: a video and its tree in, its captions out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from action100m.captioning.stage import VideoCaptioner, caption_identity, open_captioners
from action100m.config import Config, available_cpus
from action100m.runs.costs import with_costs
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.known import known_answers
from action100m.runs.manifest import Video
from action100m.runs.settings import Settings, stage_key
from action100m.runs.stages import Worker, unchanged
from action100m.segmentation.part import WITHOUT_EMBEDDINGS, from_table
from action100m.video import Decoder
from action100m.video.frames import Progress
from action100m.video.pool import DecoderPool

_REQUESTS_A_VIDEO = 8
"""That a short video has on their way at its end, while its worker waits for the last answers."""


def caption_stage_identity(config: Config, segment: StageKey) -> dict[str, Any]:
    """What decides stage 2's parts, as plain values; empty where no model is configured.

    Raises:
        ConfigError: a checkpoint is not to be had.
    """
    if config.captioning.segments is None and config.captioning.leaves is None:
        return {}
    return {
        "segment": segment.fingerprint,
        "cut": config.cut.model_dump(mode="json"),
        **caption_identity(config),
    }


@contextmanager
def open_caption_stage(
    settings: Settings, folder: RunFolder, workers: int
) -> Iterator[CaptionStage]:
    """Stage 2, its models loaded. All workers share the models and `workers` decoders.

    Raises:
        ConfigError: a model, or what it needs, is not to be had.
    """
    config = settings.config
    threads = max(1, available_cpus() // workers)
    decoders = [Decoder.of(config.video, threads=threads) for _ in range(workers)]
    with DecoderPool(decoders) as pool, open_captioners(config, pool) as captioner:
        yield CaptionStage(settings, captioner, folder)


class CaptionStage:
    """Stage 2 under one configuration: a `Stage`.

    Attributes:
        key: where its parts stand.
    """

    def __init__(self, settings: Settings, captioner: VideoCaptioner, folder: RunFolder) -> None:
        self._settings = settings
        self._captioner = captioner
        self._folder = folder
        self.key = stage_key("caption", settings.identities["caption"])

    def concurrency(self, workers: int) -> int:
        """More than are decoded: a video that only waits for answers must not hold up the next."""
        return 2 * workers + self._captioner.capacity // _REQUESTS_A_VIDEO

    @contextmanager
    def open_worker(self, threads: int) -> Iterator[Worker]:
        yield _CaptionWorker(self._settings, self._captioner, self._folder, self.key)


@dataclass(frozen=True)
class _CaptionWorker:
    settings: Settings
    captioner: VideoCaptioner
    folder: RunFolder
    stage: StageKey

    def process(self, video: Video, progress: Progress) -> pa.Table:
        segment = self.settings.key("segment")
        part = self.folder.read_part(segment, video.key, WITHOUT_EMBEDDINGS)
        segmentation = from_table(part)
        journal = self.folder.journal(self.stage, video.key)
        with unchanged(video, journal):
            answers = self.captioner.caption(
                video.path,
                segmentation.tree(self.settings.config.cut),
                segmentation.times,
                progress,
                journal,
                known_answers(self.folder, self.stage, video),
            )
        return with_costs(answers)
