"""Find a dataset's files (folders, globs, runs, remote stores), and read them as Arrow batches."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from action100m.dataset.ahead import read_ahead
from action100m.dataset.projection import Projection
from action100m.errors import DatasetError
from action100m.files import matches, walk
from action100m.schema import SCHEMA

ROWS_AT_ONCE = 64
_GROUPS_AHEAD = 2  # Arrow decodes nested columns on one CPU only
MADE_BY = "action100m."
"""Prefix of the keys in the file metadata that an export writes."""
_FILE_ENDINGS = (".parquet", ".json")


@dataclass(frozen=True)
class Source:
    """One file of a dataset.

    Attributes:
        name: the name to show to users.
        path: path within `filesystem`.
        filesystem: the file system of the file.
    """

    name: str
    path: str
    filesystem: fs.FileSystem

    def count_rows(self) -> int:
        """Return the number of videos, from the footer alone."""
        if self._is_json:
            return 1
        with self.explained(), self._parquet() as file:
            rows: int = file.metadata.num_rows
        return rows

    def first_rows(self) -> list[int]:
        """Return the number of the first row of each row group, from the footer alone."""
        if self._is_json:
            return [0]
        with self.explained(), self._parquet() as file:
            groups = range(file.num_row_groups)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
        return [0, *accumulate(sizes[:-1])]

    def made_by(self) -> dict[str, str]:
        """Return the models and settings that the footer records; {} if there are none."""
        if self._is_json:
            return {}
        with self.explained(), self._parquet() as file:
            found = file.schema_arrow.metadata or {}
        ours = {key: text for key, text in found.items() if key.startswith(MADE_BY.encode())}
        return {key.decode(): text.decode("utf-8", "replace") for key, text in ours.items()}

    def batches(
        self,
        fields: Iterable[str] | None = None,
        uids: frozenset[str] | None = None,
        groups: Container[int] | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch | DatasetError]]:
        """Yield the rows, or the error of a row group, each with the number of the first row.

        Args:
            fields: dotted paths of the published schema, such as "nodes.gpt.action"; None: all.
            uids: skip row groups that have none of these uids, by their statistics.
            groups: read only these row groups; None: all.

        Yields:
            Batches with the published types and the requested fields only.
        """
        try:
            yield from self._json(fields) if self._is_json else self._groups(fields, uids, groups)
        except self._troubles as error:
            yield 0, self.unreadable(error)

    def schema(self) -> pa.Schema:
        """Return the schema of the file; for a JSON file, the published one, as it is read.

        Raises:
            DatasetError: the file cannot be read.
        """
        if self._is_json:
            return SCHEMA
        with self.explained(), self._parquet() as file:
            return file.schema_arrow

    def row_groups(self, condition: pc.Expression | None, schema: pa.Schema) -> set[int] | None:
        """Return the row groups that, by their statistics, may meet a condition; None: all.

        Args:
            condition: a condition on columns of `schema`.
            schema: has video_uid, which is also a column of the file, and other columns.
        """
        if condition is None or self._is_json:
            return None
        from pyarrow.dataset import ParquetFileFormat  # imports pandas, if installed

        with self.explained():
            file = ParquetFileFormat().make_fragment(self.path, self.filesystem)
            own = file.physical_schema
            # Other columns of the same names in the file are not those of the condition.
            shared = set(own.names) & set(schema.names)
            if shared != {"video_uid"} or own.field("video_uid").type != pa.string():
                return None
            parts = file.split_by_row_group(filter=condition, schema=schema)
        return {group.id for part in parts for group in part.row_groups}

    def error(self, error: BaseException | str) -> DatasetError:
        """Return the error in a sentence that names this file."""
        return DatasetError(f"{self.name}: {first_line(error)}")

    def unreadable(self, error: BaseException) -> DatasetError:
        """Return the same for an error of opening or reading the file."""
        kind = "JSON" if self._is_json else "Parquet"
        return self.error(f"It cannot be read as {kind}: {first_line(error)}")

    @property
    def identity(self) -> str:
        """An identity that all names of one file share."""
        return os.path.realpath(self.path) if self._is_local else self.name

    @property
    def _is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def _is_json(self) -> bool:
        return self.path.endswith(".json")

    @property
    def _troubles(self) -> tuple[type[Exception], ...]:
        """Errors that reading may raise; for a remote store, they depend on its HTTP library."""
        return (OSError, pa.ArrowException) if self._is_local else (Exception,)

    @contextmanager
    def _parquet(self) -> Iterator[pq.ParquetFile]:
        with self.filesystem.open_input_file(self.path) as stream:
            yield _reader(stream)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise DatasetError for what cannot be read inside the block."""
        try:
            yield
        except DatasetError:
            raise
        except self._troubles as error:
            raise self.unreadable(error) from error

    def _groups(
        self,
        fields: Iterable[str] | None,
        uids: frozenset[str] | None,
        groups: Container[int] | None,
    ) -> Iterator[tuple[int, pa.RecordBatch | DatasetError]]:
        with ExitStack() as stack:
            stream = stack.enter_context(self.filesystem.open_input_file(self.path))
            file = _reader(stream)
            try:
                projection = Projection(file.schema, file.schema_arrow, fields)
            except ValueError as error:
                yield 0, self.error(error)
                return
            wanted, first_row = [], 0
            for group in range(file.num_row_groups):
                if (groups is None or group in groups) and _may_hold(file, group, uids):
                    wanted.append((group, first_row))
                first_row += file.metadata.row_group(group).num_rows
            files = [file]  # one for each group that is open at the same time
            for _ in range(min(_GROUPS_AHEAD, len(wanted) - 1)):
                # A local name may lead to another dataset by now, so the stream is shared; readers
                # that share a remote stream would take turns.
                if not self._is_local:
                    stream = stack.enter_context(self.filesystem.open_input_file(self.path))
                files.append(_reader(stream, file.metadata))
            parts = (
                self._group(files[number % len(files)], group, first_row, projection)
                for number, (group, first_row) in enumerate(wanted)
            )
            yield from read_ahead(parts, len(files))

    def _group(
        self, file: pq.ParquetFile, group: int, first_row: int, projection: Projection
    ) -> Iterator[tuple[int, pa.RecordBatch | DatasetError]]:
        try:
            for rows in file.iter_batches(
                ROWS_AT_ONCE, row_groups=[group], columns=projection.columns
            ):
                rows.validate(full=True)
                yield first_row, projection.published(rows)
                first_row += len(rows)
        except self._troubles as error:
            reason = f"Row group {group} (from row {first_row}) cannot be read: "
            yield first_row, self.error(reason + first_line(error))

    def _json(self, fields: Iterable[str] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read the form of the published sample: each column is a list of one, or the element."""
        with self.filesystem.open_input_stream(self.path) as stream:
            try:
                values = json.loads(stream.read())
                row = {name: _unwrapped(values[name]) for name in SCHEMA.names}
                table = pa.Table.from_pylist([row], SCHEMA)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise pa.ArrowInvalid(f"It is not the row of a video ({error!r}).") from error
        projection = Projection(None, SCHEMA, fields)
        yield 0, projection.published(table.to_batches()[0])


def _reader(stream: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(stream, metadata=metadata, page_checksum_verification=True)


def find_sources(where: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    """Return the files of the given places, each once; sorted by name within a place.

    Args:
        where: one or several of: a Parquet file, a single-video JSON file, a folder of Parquet
            files (searched recursively, following links), a run folder, a glob, or a URL that
            fsspec supports, such as ``hf://datasets/NAME/data`` (needs huggingface_hub).

    Raises:
        FileNotFoundError: no file is found.
        DatasetError: a folder has no Parquet files, or a URL needs a package that is not installed.
    """
    places = [where] if isinstance(where, str | Path) else list(where)
    return distinct(source for place in places for source in _sources(str(place)))


def distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Return each file once, even if it has several names."""
    found: dict[str, Source] = {}
    for source in sources:
        found.setdefault(source.identity, source)
    return tuple(found.values())


def _sources(place: str) -> list[Source]:
    if "://" in place:
        return _remote(place)
    paths = matches(place)
    if not paths:
        raise FileNotFoundError(2, "No such file or folder", place)
    return [source for path in paths for source in _local(path)]


def _local(path: Path) -> list[Source]:
    files = [path]
    if path.is_dir():
        root = path / "data" if (path / "run.toml").is_file() else path
        files = _listed(root) if root.is_dir() else []
        if not files:
            raise DatasetError(f"{path}: The folder holds no *.parquet file.")
    local = fs.LocalFileSystem()
    return [Source(str(file), str(file), local) for file in files]


def _listed(root: Path) -> list[Path]:
    """Return a folder's Parquet files; all of the same folder, even if it is replaced meanwhile."""
    while True:
        before = root.stat().st_ino
        files = sorted(file for file in walk(root) if file.suffix == ".parquet")
        if root.stat().st_ino == before:
            return files


def _remote(url: str) -> list[Source]:
    try:
        import fsspec
    except ImportError as error:
        raise DatasetError(
            f"{url}: Reading this URL needs huggingface_hub: pip install 'action100m[hub]'."
        ) from error
    protocol, _ = url.split("://", 1)
    try:
        store, path = fsspec.core.url_to_fs(url)
        files = _remote_files(store, path)
    except Exception as error:  # whatever the store's HTTP library raises
        raise DatasetError(f"{url}: {first_line(error)}") from error
    if not files:
        raise FileNotFoundError(2, "No Parquet file found", url)
    arrow = fs.PyFileSystem(fs.FSSpecHandler(store))
    return [Source(f"{protocol}://{file}", file, arrow) for file in files]


def _remote_files(store: Any, path: str) -> list[str]:
    found: Any = [path] if store.isfile(path) else sorted(store.glob(path))
    files: list[str] = []
    for place in found:
        files += [place] if place.endswith(_FILE_ENDINGS) else store.glob(f"{place}/**/*.parquet")
    return files


def _may_hold(file: pq.ParquetFile, group: int, uids: frozenset[str] | None) -> bool:
    if uids is None:
        return True
    chunks = file.metadata.row_group(group)
    columns = (chunks.column(at) for at in range(chunks.num_columns))
    chunk = next(column for column in columns if column.path_in_schema == "video_uid")
    bounds = chunk.statistics
    if bounds is None or not bounds.has_min_max:
        return True
    try:
        return any(bounds.min <= uid <= bounds.max for uid in uids)
    except UnicodeDecodeError:
        return True  # reading the row group reports it


def _unwrapped(value: Any) -> Any:
    """Unwrap a column of the published JSON from its list of one; `nodes` is itself a list."""
    nested = isinstance(value, list) and len(value) == 1 and not _is_node(value[0])
    return value[0] if nested else value


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and "node_id" in value


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error message, as a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
