"""Combine metadata and transcripts from the files next to a video and the metadata table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path

from action100m.config import MetadataConfig
from action100m.files import ask_for_each
from action100m.processes import call_in_processes
from action100m.runs.sidecars.metadata import (
    VideoMetadata,
    checked_metadata,
    read_sidecar,
    sidecar_path,
)
from action100m.runs.sidecars.metadata_table import MetadataTable
from action100m.runs.sidecars.transcript import SubtitleFiles

_PER_CALL = 1000  # sidecars: a process takes as long to start as it takes to read so many


class Sidecars:
    """Looks up metadata and subtitle files for one configuration.

    Attributes:
        languages: the languages wanted for transcripts, the best first.

    Raises:
        ConfigError: the metadata table cannot be used.
    """

    def __init__(self, config: MetadataConfig) -> None:
        self.languages = config.languages
        self._subtitles = SubtitleFiles()
        self._table = None if config.table is None else MetadataTable(Path(config.table))

    def doubts(self, videos: Iterable[tuple[Path, str]]) -> list[str]:
        """Return sentences about likely mistakes in the table.

        Args:
            videos: path and uid of every video that a row may name.
        """
        if self._table is None:
            return []
        if any(self._table.row(path, uid) for path, uid in videos):
            return self._table.doubts
        return [*self._table.doubts, f"{self._table}: no row names any of the videos."]

    def states(self, videos: Sequence[Path]) -> list[str]:
        """Return for each video a string that changes with its files; "" if there are none."""
        ask_for_each(self._subtitles.list_folder, sorted({video.parent for video in videos}))
        return ask_for_each(self._state, videos)

    def _state(self, video: Path) -> str:
        info = _stamp(sidecar_path(video))
        subtitles = [f"{file.name} {_stamp(file)}" for file in self._subtitles.beside(video)]
        if subtitles:
            subtitles.append(",".join(self.languages))
        table = "" if self._table is None else f"{self._table} {_stamp(self._table.file)}"
        return "|".join([info, *subtitles, table]).rstrip("|")

    def subtitles(self, video: Path) -> list[Path]:
        """Return the subtitle files of a video."""
        return self._subtitles.beside(video)

    def metadata(self, videos: Sequence[Path], processes: int = 1) -> list[VideoMetadata]:
        """Return the fields of each video's info.json; those of the table take precedence.

        Args:
            videos: paths of video files.
            processes: maximum number of processes that read the info.json files.
        """
        calls = [(videos[k : k + _PER_CALL],) for k in range(0, len(videos), _PER_CALL)]
        found = chain.from_iterable(call_in_processes(_read_sidecars, calls, processes))
        return [self._combined(*each) for each in zip(videos, found, strict=True)]

    def _combined(self, video: Path, sidecar: VideoMetadata) -> VideoMetadata:
        found = self._table and self._table.row(video, sidecar.id)
        if not found:
            return sidecar
        own = checked_metadata(f"{self._table}, row {found.number}", found.fields)
        names = [field.name for field in fields(own) if field.name != "problems"]
        given = {name: value for name in names if (value := getattr(own, name)) is not None}
        return replace(sidecar, **given, problems=sidecar.problems + own.problems)


def _read_sidecars(videos: Sequence[Path]) -> list[VideoMetadata]:
    return ask_for_each(read_sidecar, videos)


def _stamp(file: Path) -> str:
    """Return the size and the modification time; "" if the file does not exist."""
    try:
        state = file.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"
