"""Stage 2 in a run: from a video and its tree to its captions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from action100m.captioning.stage import VideoCaptioner, caption_identity, open_captioners
from action100m.config import Config
from action100m.runs.costs import with_costs
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.known import known_answers
from action100m.runs.manifest import Video
from action100m.runs.segment_stage import read_segmentation
from action100m.runs.settings import Settings, stage_key
from action100m.runs.stages import Worker, unchanged
from action100m.video import Decoder, DecoderPool, Progress

_REQUESTS_A_VIDEO = 8
"""Pending requests at the end of a short video, while its worker waits for the last answers."""


def caption_stage_identity(config: Config, segment: StageKey) -> dict[str, Any]:
    """Return what determines stage 2's parts, as plain values; empty if no model is configured.

    Raises:
        ConfigError: a checkpoint is not available.
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
    """Open stage 2 with its models loaded. All workers share the models and `workers` decoders.

    Raises:
        ConfigError: a model, or something that it needs, is not available.
    """
    config = settings.config
    decoders = [Decoder.of(config.video) for _ in range(workers)]
    with DecoderPool(decoders) as pool, open_captioners(config, pool) as captioner:
        yield CaptionStage(settings, captioner, folder)


class CaptionStage:
    """Stage 2 with one configuration: a `Stage`.

    Attributes:
        key: identifies the folder of its parts.
    """

    def __init__(self, settings: Settings, captioner: VideoCaptioner, folder: RunFolder) -> None:
        self._settings = settings
        self._captioner = captioner
        self._folder = folder
        self.key = stage_key("caption", settings.identities["caption"])

    def concurrency(self, workers: int) -> int:
        """Return more than `workers`, as a video that waits for answers must not delay the next."""
        return 2 * workers + self._captioner.capacity // _REQUESTS_A_VIDEO

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        yield _CaptionWorker(self._settings, self._captioner, self._folder, self.key)


@dataclass(frozen=True)
class _CaptionWorker:
    settings: Settings
    captioner: VideoCaptioner
    folder: RunFolder
    stage: StageKey

    def process(self, video: Video, progress: Progress) -> pa.Table:
        segmentation = read_segmentation(self.folder, self.settings, video)
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
