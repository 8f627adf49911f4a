"""Metadata and transcripts of a run's videos, read from the manifest."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.runs.folder import explained_damage
from action100m.runs.manifest import ROWS_PER_GROUP, Video
from action100m.runs.sidecars.metadata import VideoMetadata

_KEPT = 16  # open pieces, and row groups of each column


class Details:
    """Looks up metadata and transcripts; any number of threads may share one.

    It keeps what it opened last, as videos of a piece are looked up in the order of their uids. All
    methods raise RunStoppedError if the manifest is damaged.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = lru_cache(_KEPT)(pq.ParquetFile)
        self._group = lru_cache(2 * _KEPT)(self._read_group)

    def metadata(self, video: Video) -> VideoMetadata:
        """Return the metadata of a video; its `problems` are not stored."""
        return VideoMetadata(**(self._value(video, "metadata") or {}))

    def transcript(self, video: Video) -> list[dict[str, str]] | None:
        """Return the transcript of a video in the form of schema.METADATA; None if it has none."""
        lines: list[dict[str, str]] | None = self._value(video, "transcript")
        return lines

    def _value(self, video: Video, column: str) -> Any:
        if video.place is None:  # it is not in the manifest yet
            return None
        piece, row = video.place
        with self._lock:
            group = self._group(piece, row // ROWS_PER_GROUP, column)
        return group[row % ROWS_PER_GROUP].as_py()

    def _read_group(self, piece: Path, number: int, column: str) -> pa.ChunkedArray:
        with explained_damage(piece):
            return self._file(piece).read_row_group(number, [column]).column(0)
