"""Stage 1 in a run: from a video's file to its dendrogram."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from action100m.config import Config
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video
from action100m.runs.settings import Settings, stage_key
from action100m.runs.stages import Worker, unchanged
from action100m.segmentation.encoders import Encoder, load_encoder, open_encoder
from action100m.segmentation.part import WITHOUT_EMBEDDINGS, from_table, to_table
from action100m.segmentation.stage import Segmentation, Segmenter, segment_identity
from action100m.video import Progress, require_backend


@contextmanager
def open_segment_stage(config: Config, folder: RunFolder) -> Iterator[SegmentStage]:
    """Open stage 1 without loading its encoder. Workers share the encoder, but not decoders.

    Raises:
        ConfigError: the encoder or the decoder is not available here.
    """
    require_backend(config.video.decoder)
    with open_encoder(config.segmentation) as encoder:
        yield SegmentStage(config, encoder, folder)


class SegmentStage:
    """Stage 1 with one configuration: a `Stage`.

    Attributes:
        identity: what determines the contents of its parts, as plain values.
        key: identifies the folder of its parts.
    """

    def __init__(self, config: Config, encoder: Encoder, folder: RunFolder) -> None:
        self._config = config
        self._folder = folder
        self._encoder = encoder
        self.identity = segment_identity(config, encoder)
        self.key = stage_key("segment", self.identity)

    @contextmanager
    def loaded(self) -> Iterator[SegmentStage]:
        """Load the encoder and yield the stage.

        Raises:
            ConfigError: the encoder does not work here.
        """
        load_encoder(self._encoder)
        yield self

    def concurrency(self, workers: int) -> int:
        return workers

    @contextmanager
    def open_worker(self) -> Iterator[Worker]:
        with Segmenter(self._config, self._encoder) as segmenter:
            yield _SegmentWorker(segmenter, self._folder, self.key)


def read_segmentation(folder: RunFolder, settings: Settings, video: Video) -> Segmentation:
    """Read the part of a done video, without its embeddings.

    Raises:
        RunStoppedError: the part is damaged.
    """
    part = folder.read_part(settings.key("segment"), video.key, WITHOUT_EMBEDDINGS)
    return from_table(part)


@dataclass(frozen=True)
class _SegmentWorker:
    segmenter: Segmenter
    folder: RunFolder
    stage: StageKey

    def process(self, video: Video, progress: Progress) -> pa.Table:
        with unchanged(video, self.folder.journal(self.stage, video.key)) as journal:
            segmentation = self.segmenter.segment(video.path, progress, journal)
        return to_table(segmentation)
