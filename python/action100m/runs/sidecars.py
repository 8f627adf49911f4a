"""What stands beside a video, or in a table of all, put together: metadata and transcript."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from action100m.config import MetadataConfig
from action100m.runs.metadata import VideoMetadata, checked_metadata, read_sidecar, sidecar_path
from action100m.runs.metadata_table import MetadataTable
from action100m.runs.transcript import SubtitleFiles, Transcript, read_transcript


class Sidecars:
    """Looks things up for one configuration.

    Raises:
        ConfigError: the table of metadata cannot be used.
    """

    def __init__(self, config: MetadataConfig) -> None:
        self._languages = config.languages
        self._subtitles = SubtitleFiles()
        self._table = None if config.table is None else MetadataTable(Path(config.table))

    @property
    def doubts(self) -> list[str]:
        """What in the table looks like a mistake, as sentences."""
        return [] if self._table is None else self._table.doubts

    def state(self, video: Path) -> str:
        """Changes whenever what would be read changes; "" where there is nothing to read."""
        info = _stamp(sidecar_path(video))
        subtitles = [f"{file.name} {_stamp(file)}" for file in self._subtitles.beside(video)]
        if subtitles:
            subtitles.append(",".join(self._languages))
        table = "" if self._table is None else f"{self._table} {_stamp(self._table.file)}"
        return "|".join([info, *subtitles, table]).rstrip("|")

    def metadata(self, video: Path) -> VideoMetadata:
        """The fields of the info.json; those that the table has for the video go before them."""
        sidecar = read_sidecar(video)
        found = self._table and self._table.row(video, sidecar.id)
        if not found:
            return sidecar
        own = checked_metadata(f"{self._table}, row {found.number}", found.fields)
        names = [field.name for field in fields(own) if field.name != "problems"]
        given = {name: value for name in names if (value := getattr(own, name)) is not None}
        return replace(sidecar, **given, problems=sidecar.problems + own.problems)

    def transcript(self, video: Path) -> Transcript:
        """What is said in the video, by the best of its subtitle files."""
        return read_transcript(video, self._subtitles.beside(video), self._languages)


def _stamp(file: Path) -> str:
    """Size and modification time; "" for a file that is not there."""
    try:
        state = file.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"
