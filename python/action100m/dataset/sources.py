"""Find a dataset's files (folders, globs, runs, remote stores), and read them as Arrow batches."""

from __future__ import annotations

import errno
import json
import os
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
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
from action100m.files import RUN_SETTINGS, is_run_folder, matches, walk
from action100m.schema import SCHEMA
from action100m.text import first_line

ROWS_AT_ONCE = 64
_GROUPS_AHEAD = 2  # Arrow decodes nested columns on one CPU only
_FOOTERS = 16  # kept; one takes about 10 KB for each row group
MADE_BY = "action100m."
"""Prefix of the keys in the file metadata that an export writes."""
_FILE_ENDINGS = (".parquet", ".json")


@dataclass(frozen=True, eq=False)
class Source:
    """One file of a dataset.

    Attributes:
        name: the name to show to users, different for each file.
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
        rows: int = self._footer().metadata.num_rows
        return rows

    def first_rows(self) -> list[int]:
        """Return the number of the first row of each row group, from the footer alone."""
        if self._is_json:
            return [0]
        return self._footer().first_rows

    def made_by(self) -> dict[str, str]:
        """Return the models and settings that the footer records; {} if there are none."""
        if self._is_json:
            return {}
        found = self._footer().schema.metadata or {}
        ours = {key: text for key, text in found.items() if key.startswith(MADE_BY.encode())}
        return {key.decode(): text.decode("utf-8", "replace") for key, text in ours.items()}

    def batches(
        self,
        fields: Iterable[str] | None = None,
        uids: Sequence[str] | None = None,
        groups: Container[int] | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch | DatasetError]]:
        """Yield the rows, or the error of a row group, each with the number of the first row.

        Args:
            fields: dotted paths of the published schema, such as "nodes.gpt.action"; None: all.
            uids: in order; skip row groups that have none of these, by their statistics.
            groups: read only these row groups; None: all. The footers of the files that were last
                read in this way are kept.

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
        return self._footer().schema

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

    def _footer(self) -> _Footer:
        """Read the footer; raise DatasetError if that is not possible."""
        with self.explained(), self.filesystem.open_input_file(self.path) as stream:
            return _Footer(_reader(stream))

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
        uids: Sequence[str] | None,
        groups: Container[int] | None,
    ) -> Iterator[tuple[int, pa.RecordBatch | DatasetError]]:
        with ExitStack() as stack:
            stream = stack.enter_context(self.filesystem.open_input_file(self.path))
            if groups is None:
                file = _reader(stream)
                footer = _Footer(file)
            else:
                footer = _kept_footer(self, self._stamp())
                file = _reader(stream, footer.metadata)
            try:
                projection = Projection(footer.columns, footer.schema, fields)
            except ValueError as error:
                yield 0, self.error(error)
                return
            wanted = footer.groups_with(uids) if groups is None else footer.groups_in(groups)
            files = [file]  # one for each group that is open at the same time
            for _ in range(min(_GROUPS_AHEAD, len(wanted) - 1)):
                # A local name may lead to another dataset by now, so the stream is shared; readers
                # that share a remote stream would take turns.
                if not self._is_local:
                    stream = stack.enter_context(self.filesystem.open_input_file(self.path))
                files.append(_reader(stream, footer.metadata))
            parts = (
                self._group(files[k % len(files)], group, footer.first_rows[group], projection)
                for k, group in enumerate(wanted)
            )
            yield from read_ahead(parts, len(files))

    def _stamp(self) -> tuple[int, ...]:
        """Return numbers that change if a local file does; a remote one is asked when opened."""
        if not self._is_local:
            return ()
        found = Path(self.path).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

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


class _Footer:
    """What the footer of a Parquet file says.

    It does without `ParquetFile.schema`, which forms a reference cycle with the footer: the garbage
    collector would leave hundreds of them, as it does not see how large they are.

    Attributes:
        metadata: the footer.
        schema: schema of the file.
        first_rows: number of the first row of each row group.
        columns: paths of the leaf columns, in order; None if there is no row group.
    """

    def __init__(self, file: pq.ParquetFile) -> None:
        self.metadata = file.metadata
        self.schema = file.schema_arrow
        groups = [self.metadata.row_group(group) for group in range(self.metadata.num_row_groups)]
        self.first_rows = [0, *accumulate(group.num_rows for group in groups[:-1])]
        self.columns = (
            [groups[0].column(at).path_in_schema for at in range(groups[0].num_columns)]
            if groups
            else None
        )

    def groups_in(self, groups: Container[int]) -> list[int]:
        """Return those of the row groups that exist."""
        return [group for group in range(self.metadata.num_row_groups) if group in groups]

    def groups_with(self, uids: Sequence[str] | None) -> list[int]:
        """Return the row groups that may hold one of the uids, which are in order; None: all."""
        every = range(self.metadata.num_row_groups)
        if uids is None or self.columns is None:
            return list(every)
        at = self.columns.index("video_uid")
        return [g for g in every if _may_hold(self.metadata.row_group(g).column(at), uids)]


@lru_cache(_FOOTERS)
def _kept_footer(source: Source, stamp: tuple[int, ...]) -> _Footer:
    return source._footer()


def _may_hold(chunk: pq.ColumnChunkMetaData, uids: Sequence[str]) -> bool:
    bounds = chunk.statistics
    if bounds is None or not bounds.has_min_max:
        return True
    try:
        first = bisect_left(uids, bounds.min)
        return first < len(uids) and uids[first] <= bounds.max
    except UnicodeDecodeError:
        return True  # reading the row group reports it


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
        raise FileNotFoundError(errno.ENOENT, "No such file or folder", place)
    return [source for path in paths for source in _local(path)]


def _local(path: Path) -> list[Source]:
    files = [path]
    if path.is_dir():
        root = path / "data" if is_run_folder(path) else path
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
    _, *rest = url.split("::", 1)  # zip://FILE::URL
    try:
        store, path = fsspec.core.url_to_fs(url)
        files = _remote_files(store, path)
    except ImportError as error:  # fsspec names the package that the address needs
        raise DatasetError(
            f"{url}: {first_line(error)} For https:// and hf://, pip install 'action100m[hub]'."
        ) from error
    except Exception as error:  # whatever the store's HTTP library raises
        raise DatasetError(f"{url}: {first_line(error)}") from error
    if not files:
        raise FileNotFoundError(errno.ENOENT, "No Parquet file found", url)
    arrow = fs.PyFileSystem(fs.FSSpecHandler(_ForkSafe(store)))
    names = ["::".join([store.unstrip_protocol(file), *rest]) for file in files]
    return [Source(name, file, arrow) for name, file in zip(names, files, strict=True)]


def _remote_files(store: Any, path: str) -> list[str]:
    found: Any = [path] if store.isfile(path) else sorted(store.glob(path))
    files: list[str] = []
    for place in found:
        if place.endswith(_FILE_ENDINGS):
            files.append(place)
            continue
        root = f"{place}/data" if store.isfile(f"{place}/{RUN_SETTINGS}") else place
        below = (str(file) for file in store.glob(f"{root}/**/*.parquet"))
        files += [file for file in below if "/." not in file.removeprefix(root)]  # hidden ones
    return files


class _ForkSafe:
    """A store that opens itself again in another process: many refuse to be used after a fork."""

    def __init__(self, store: Any) -> None:
        self._opened = os.getpid(), store

    def __getattr__(self, name: str) -> Any:
        process, store = self._opened
        if process != os.getpid():
            store = type(store)(*store.storage_args, **store.storage_options)
            self._opened = os.getpid(), store
        return getattr(store, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _ForkSafe, (self._opened[1],)


def _unwrapped(value: Any) -> Any:
    """Unwrap a column of the published JSON from its list of one; `nodes` is itself a list."""
    nested = isinstance(value, list) and len(value) == 1 and not _is_node(value[0])
    return value[0] if nested else value


def _is_node(value: object) -> bool:
    return isinstance(value, dict) and "node_id" in value
