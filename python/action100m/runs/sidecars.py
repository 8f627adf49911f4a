"""Combine metadata and transcripts from the files next to a video and the metadata table."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from action100m.config import MetadataConfig
from action100m.runs.metadata import VideoMetadata, checked_metadata, read_sidecar, sidecar_path
from action100m.runs.metadata_table import MetadataTable
from action100m.runs.transcript import SubtitleFiles, Transcript, read_transcript


class Sidecars:
    """Looks up metadata and transcripts for one configuration.

    Raises:
        ConfigError: the metadata table cannot be used.
    """

    def __init__(self, config: MetadataConfig) -> None:
        self._languages = config.languages
        self._subtitles = SubtitleFiles()
        self._table = None if config.table is None else MetadataTable(Path(config.table))

    @property
    def doubts(self) -> list[str]:
        """Sentences about likely mistakes in the table."""
        return [] if self._table is None else self._table.doubts

    def state(self, video: Path) -> str:
        """Return a string that changes whenever what would be read does; "" if there is nothing."""
        info = _stamp(sidecar_path(video))
        subtitles = [f"{file.name} {_stamp(file)}" for file in self._subtitles.beside(video)]
        if subtitles:
            subtitles.append(",".join(self._languages))
        table = "" if self._table is None else f"{self._table} {_stamp(self._table.file)}"
        return "|".join([info, *subtitles, table]).rstrip("|")

    def metadata(self, video: Path) -> VideoMetadata:
        """Return the fields of the info.json; fields from the table take precedence."""
        sidecar = read_sidecar(video)
        found = self._table and self._table.row(video, sidecar.id)
        if not found:
            return sidecar
        own = checked_metadata(f"{self._table}, row {found.number}", found.fields)
        names = [field.name for field in fields(own) if field.name != "problems"]
        given = {name: value for name in names if (value := getattr(own, name)) is not None}
        return replace(sidecar, **given, problems=sidecar.problems + own.problems)

    def transcript(self, video: Path) -> Transcript:
        """Return the transcript of the video, from the best of its subtitle files."""
        return read_transcript(video, self._subtitles.beside(video), self._languages)


def _stamp(file: Path) -> str:
    """Return the size and the modification time; "" if the file does not exist."""
    try:
        state = file.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"
