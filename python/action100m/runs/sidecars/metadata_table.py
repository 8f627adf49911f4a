"""A table with a row for each video: CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.errors import ConfigError
from action100m.files import absolute, ask_for_each
from action100m.text import first_line

_COLUMNS = ("title", "description", "view_count", "like_count", "duration", "upload_date")
_KNOWN = {"path", "video_uid", "id", *_COLUMNS}


@dataclass(frozen=True)
class TableRow:
    """One row: its number in the file, counted from 1, and its fields without nulls."""

    number: int
    fields: Mapping[str, object]


class MetadataTable:
    """Rows by a video's path, absolute or relative to the table, or by its id.

    Columns: `path` or `video_uid` (or `id`), and any of title, description, view_count, like_count,
    duration, upload_date; other columns are ignored.

    Raises:
        ConfigError: the file cannot be read, a row names no video, or two rows name the same one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._by_path: dict[str, TableRow] = {}
        self._by_id: dict[str, TableRow] = {}
        self._columns: set[str] = set()
        try:
            if file.suffix.lower() == ".parquet":
                self._columns.update(pq.read_schema(file).names)
            for number, row in enumerate(_rows(file), 1):
                self._columns.update(map(str, row))
                self._take(number, row)
        except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
            if isinstance(error, ConfigError):
                raise
            reason = first_line(getattr(error, "strerror", None) or error)
            raise ConfigError(f"The metadata in {file} cannot be read: {reason}") from error

    @property
    def doubts(self) -> list[str]:
        """A sentence for each unused column whose name resembles that of a known one."""
        others = sorted(self._columns - _KNOWN)
        similar = {
            name: get_close_matches(name.lower(), sorted(_KNOWN), 1, 0.75) for name in others
        }
        return [
            f"{self.file}: the column {name!r} is not used. Did you mean {meant[0]!r}?"
            for name, meant in similar.items()
            if meant and meant[0] not in self._columns
        ]

    def __str__(self) -> str:
        return str(self.file)

    def row(self, video: Path, video_id: str | None) -> TableRow | None:
        """Return the row of a video: by its path, else by its sidecar's id, else by its stem."""
        found = self._by_path.get(str(absolute(video))) or self._through_links(video)
        return found or self._by_id.get(video_id or "") or self._by_id.get(video.stem)

    def _through_links(self, video: Path) -> TableRow | None:
        return self._by_real_path.get(os.path.realpath(video)) if self._by_path else None

    @cached_property
    def _by_real_path(self) -> dict[str, TableRow]:
        """The first row of each file: several may name it through links."""
        paths = list(self._by_path)
        found = zip(ask_for_each(os.path.realpath, paths), self._by_path.values(), strict=True)
        return dict(reversed([*found]))

    def _take(self, number: int, row: Mapping[str, Any]) -> None:
        uid = row.get("video_uid") or row.get("id")
        path = row.get("path")
        if not uid and not path:
            raise ConfigError(
                f"{self.file}, row {number} names no video: it needs a path, a video_uid or an id "
                f"(its columns: {', '.join(map(str, row)) or 'none'})."
            )
        fields = {name: row[name] for name in _COLUMNS if row.get(name) not in (None, "")}
        found = TableRow(number, {"id": str(uid), **fields} if uid else fields)
        place = str(absolute(self.file.parent / str(path))) if path else None
        for index, key in ((self._by_path, place), (self._by_id, str(uid) if uid else None)):
            if key is None:
                continue
            if key in index:
                raise ConfigError(
                    f"{self.file}: rows {index[key].number} and {number} both name {key}. "
                    "Remove one."
                )
            index[key] = found


def _rows(file: Path) -> Iterator[Mapping[str, Any]]:
    kind = file.suffix.lower()
    if kind == ".parquet":
        with pq.ParquetFile(file) as parquet:
            columns = [name for name in parquet.schema_arrow.names if name in _KNOWN]
            for batch in parquet.iter_batches(columns=columns):
                yield from batch.to_pylist()
    elif kind == ".csv":
        with file.open(newline="", encoding="utf-8-sig") as stream:
            yield from csv.DictReader(stream)
    elif kind in (".jsonl", ".ndjson"):
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield _object(line, number)
    else:
        raise ConfigError(f"{file}: metadata is read from .csv, .jsonl and .parquet files only.")


def _object(line: str, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not a JSON object")
    return value
