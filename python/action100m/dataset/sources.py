"""Where a dataset lies: files, folders, globs, run folders and remote stores, as Arrow batches."""

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
_GROUPS_AHEAD = 2  # Arrow decodes what is nested on one CPU
MADE_BY = "action100m."
"""How the keys of the file metadata that an export writes begin."""
_FILE_ENDINGS = (".parquet", ".json")


@dataclass(frozen=True)
class Source:
    """One file of a dataset.

    Attributes:
        name: as a person would write it.
        path: within `filesystem`.
        filesystem: that holds it.
    """

    name: str
    path: str
    filesystem: fs.FileSystem

    def count_rows(self) -> int:
        """How many videos it holds, from the footer alone."""
        if self._is_json:
            return 1
        with self.explained(), self._parquet() as file:
            rows: int = file.metadata.num_rows
        return rows

    def first_rows(self) -> list[int]:
        """The number of the first row of each row group, from the footer alone."""
        if self._is_json:
            return [0]
        with self.explained(), self._parquet() as file:
            groups = range(file.num_row_groups)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
        return [0, *accumulate(sizes[:-1])]

    def made_by(self) -> dict[str, str]:
        """What the footer says of the models and settings that made it; {} where it does not."""
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
        """Its rows, or what is wrong with a row group, each with the number of the first row.

        Args:
            fields: dotted paths of the published schema, such as "nodes.gpt.action"; None: all.
            uids: leave out row groups that hold none of these, by their statistics.
            groups: of the row groups only these; None: all.

        Yields:
            Batches of the published schema's types with the asked fields only.
        """
        try:
            yield from self._json(fields) if self._is_json else self._groups(fields, uids, groups)
        except self._troubles as error:
            yield 0, self.unreadable(error)

    def schema(self) -> pa.Schema:
        """As the file has it; of a JSON file, the published one, as which it is read.

        Raises:
            DatasetError: it cannot be read.
        """
        if self._is_json:
            return SCHEMA
        with self.explained(), self._parquet() as file:
            return file.schema_arrow

    def row_groups(self, condition: pc.Expression | None, schema: pa.Schema) -> set[int] | None:
        """The row groups whose statistics leave room for rows that meet a condition; None: all.

        Args:
            condition: on columns of `schema`.
            schema: video_uid, which is the file's too, and others.
        """
        if condition is None or self._is_json:
            return None
        from pyarrow.dataset import ParquetFileFormat  # imports pandas, where there is one

        with self.explained():
            file = ParquetFileFormat().make_fragment(self.path, self.filesystem)
            own = file.physical_schema
            # Other columns of these names are not those that the condition is on.
            shared = set(own.names) & set(schema.names)
            if shared != {"video_uid"} or own.field("video_uid").type != pa.string():
                return None
            parts = file.split_by_row_group(filter=condition, schema=schema)
        return {group.id for part in parts for group in part.row_groups}

    def error(self, error: BaseException | str) -> DatasetError:
        """The error in a sentence that names this file."""
        return DatasetError(f"{self.name}: {first_line(error)}")

    def unreadable(self, error: BaseException) -> DatasetError:
        """The same for what came of opening it."""
        kind = "JSON" if self._is_json else "Parquet"
        return self.error(f"It cannot be read as {kind}: {first_line(error)}")

    @property
    def identity(self) -> str:
        """The same for two names of one file."""
        return os.path.realpath(self.path) if self._is_local else self.name

    @property
    def _is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    @property
    def _is_json(self) -> bool:
        return self.path.endswith(".json")

    @property
    def _troubles(self) -> tuple[type[Exception], ...]:
        """What reading may raise; of a remote store that is up to the HTTP library it uses."""
        return (OSError, pa.ArrowException) if self._is_local else (Exception,)

    @contextmanager
    def _parquet(self) -> Iterator[pq.ParquetFile]:
        with self.filesystem.open_input_file(self.path) as stream:
            yield _reader(stream)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raises DatasetError for what cannot be read inside the block."""
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
                # Under a local name another dataset may stand by now; of a remote file, those who
                # share it read by turns.
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
        """The published sample's form: each column a list of one element, or the element."""
        with self.filesystem.open_input_stream(self.path) as stream:
            try:
                values = json.loads(stream.read())
                row = {name: _unwrapped(values[name]) for name in SCHEMA.names}
                table = pa.Table.from_pylist([row], SCHEMA)
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                raise pa.ArrowInvalid(f"It holds no video's row ({error!r}).") from error
        projection = Projection(None, SCHEMA, fields)
        yield 0, projection.published(table.to_batches()[0])


def _reader(stream: pa.NativeFile, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(stream, metadata=metadata, page_checksum_verification=True)


def find_sources(where: str | Path | Sequence[str | Path]) -> tuple[Source, ...]:
    """The files that are meant, each once, in the order of their names.

    Args:
        where: one or several of: a Parquet file, a single-video JSON file, a folder of Parquet
            files (walked whole, links followed), a run folder, a glob, or a URL that fsspec knows,
            such as ``hf://datasets/NAME/data`` (needs huggingface_hub).

    Raises:
        FileNotFoundError: nothing is there.
        DatasetError: a folder without Parquet files, or a URL that needs what is not installed.
    """
    places = [where] if isinstance(where, str | Path) else list(where)
    return distinct(source for place in places for source in _sources(str(place)))


def distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Each file once, whatever its names."""
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
    """The Parquet files of a folder: of one, where another takes its place meanwhile."""
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
            f"{url}: Reading from there needs huggingface_hub: pip install 'action100m[hub]'."
        ) from error
    protocol, _ = url.split("://", 1)
    try:
        store, path = fsspec.core.url_to_fs(url)
        files = _remote_files(store, path)
    except Exception as error:  # what the store's HTTP library raises
        raise DatasetError(f"{url}: {first_line(error)}") from error
    if not files:
        raise FileNotFoundError(2, "No Parquet file there", url)
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
        return True  # reading it will tell


def _unwrapped(value: Any) -> Any:
    """The published JSON wraps each column in a list of one; nodes are themselves a list."""
    nested = isinstance(value, list) and len(value) == 1 and not _is_node(value[0])
    return value[0] if nested else value


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and "node_id" in value


def first_line(error: BaseException | str) -> str:
    """What an error says, as one sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."
