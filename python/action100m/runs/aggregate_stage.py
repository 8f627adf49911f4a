"""Stage 3 in a run: from a video's captions to its structured actions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from action100m.aggregation.prompts import Captioned
from action100m.aggregation.stage import VideoAggregator, aggregate_identity, open_aggregator
from action100m.captioning.questions import FIELDS
from action100m.config import Config
from action100m.errors import ConfigError
from action100m.inference.answers import TEXT_COLUMNS, texts
from action100m.runs.costs import with_costs
from action100m.runs.details import Details
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.known import known_answers
from action100m.runs.manifest import Video
from action100m.runs.segment_stage import read_segmentation
from action100m.runs.settings import Settings, stage_key
from action100m.runs.stages import Worker
from action100m.video import Progress

_REQUESTS_A_VIDEO = 4
"""Pending requests of a short video, whose segments wait for their own earlier rounds."""


def aggregate_stage_identity(config: Config, caption: StageKey | None) -> dict[str, Any]:
    """Return what determines stage 3's parts, as plain values; empty if no model is configured.

    Raises:
        ConfigError: a checkpoint is not available, or there are no captions to aggregate.
    """
    if config.aggregation.model is None:
        return {}
    if caption is None or config.captioning.segments is None:
        raise ConfigError(
            "[aggregation] needs captions: configure [captioning.segments.model] too, or leave "
            "[aggregation.model] out."
        )
    return {"caption": caption.fingerprint, **aggregate_identity(config.aggregation)}


@contextmanager
def open_aggregate_stage(settings: Settings, folder: RunFolder) -> Iterator[AggregateStage]:
    """Open stage 3 with its model loaded.

    Raises:
        ConfigError: the model, or something that it needs, is not available.
    """
    with open_aggregator(settings.config.aggregation) as aggregator:
        yield AggregateStage(settings, aggregator, folder)


class AggregateStage:
    """Stage 3 with one configuration: a `Stage`.

    Attributes:
        key: identifies the folder of its parts.
    """

    def __init__(self, settings: Settings, aggregator: VideoAggregator, folder: RunFolder) -> None:
        self._settings = settings
        self._aggregator = aggregator
        self._folder = folder
        self._details = Details()
        self.key = stage_key("aggregate", settings.identities["aggregate"])

    def concurrency(self, workers: int) -> int:
        """Return as many videos as keep the model busy, as nothing is decoded."""
        return 2 + self._aggregator.capacity // _REQUESTS_A_VIDEO

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        yield _AggregateWorker(
            self._settings, self._aggregator, self._folder, self._details, self.key
        )


@dataclass(frozen=True)
class _AggregateWorker:
    settings: Settings
    aggregator: VideoAggregator
    folder: RunFolder
    details: Details
    stage: StageKey

    def process(self, video: Video, progress: Progress) -> pa.Table:
        segmentation = read_segmentation(self.folder, self.settings, video)
        answered = self.folder.read_part(self.settings.key("caption"), video.key, TEXT_COLUMNS)
        tree = segmentation.tree(self.settings.config.cut)
        captions = {field: texts(answered, field, len(tree)).to_pylist() for field in FIELDS}
        about = self.details.metadata(video)
        captioned = Captioned(
            tree,
            captions["plm_caption"],
            captions["plm_action"],
            captions["llama3_caption"],
            about.title,
            about.description,
            [(float(line["time"]), line["text"]) for line in self.details.transcript(video) or ()],
        )
        journal = self.folder.journal(self.stage, video.key)
        known = known_answers(self.folder, self.stage, video)
        answers = self.aggregator.aggregate(video.key, captioned, progress, journal, known)
        return with_costs(answers)
