"""SQL over a dataset: DuckDB requests columns and rows, and no others are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from action100m.dataset.columns import Batch
from action100m.dataset.sources import Source
from action100m.errors import DatasetError
from action100m.schema import METADATA, SEGMENT_COLUMNS

VIDEOS = {field.name: (f"metadata.{field.name}", field.type) for field in METADATA}
"""Columns of the view `videos`: path in the published schema, and type."""


def query(
    sql: str, sources: Sequence[Source], refuse: Callable[[DatasetError], object]
) -> pa.Table:
    """Return the result of `Dataset.sql`; raise the same errors.

    Args:
        sql: the query.
        sources: the files to query.
        refuse: called with each error of reading; may raise it.
    """
    try:
        import duckdb
    except ImportError as error:
        raise DatasetError("SQL needs DuckDB: pip install 'action100m[query]'.") from error
    videos = _View(sources, refuse, VIDEOS, ())
    segments = _View(sources, refuse, SEGMENT_COLUMNS, ("nodes.level",))
    with duckdb.connect() as connection:
        connection.register("videos", videos)
        connection.register("segments", segments)
        try:
            found = connection.sql(sql)
            if found is None:
                raise DatasetError(
                    "SQL: Only a query that returns rows, such as SELECT, can be run."
                )
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise (videos.refused or segments.refused or DatasetError(f"SQL: {error}")) from error


class _View(pads.Dataset):  # type: ignore[misc]  # it has no types; DuckDB needs one
    """A flat table that DuckDB scans like any Arrow dataset: by `schema` and `scanner`."""

    def __init__(
        self,
        sources: Sequence[Source],
        refuse: Callable[[DatasetError], object],
        columns: Mapping[str, tuple[str, pa.DataType]],
        least: Sequence[str],
    ) -> None:
        """Prepare the table; nothing is read yet.

        Args:
            sources, refuse: see `query`.
            columns: paths and types by name, besides `video_uid`.
            least: the fields to read if no column is requested, so that rows can be counted.
        """
        self._sources, self._refuse = sources, refuse
        self._paths = {name: path for name, (path, _) in columns.items()}
        self._least = least
        types = {name: kind for name, (_, kind) in columns.items()}
        self._schema = pa.schema({"video_uid": pa.string(), **types})
        self.refused: DatasetError | None = None

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: Any = None,  # noqa: A002 (DuckDB passes it by this name)
        **options: Any,
    ) -> pads.Scanner:
        """Return the requested columns of the rows that pass the filter; called by DuckDB."""
        names = self._schema.names if columns is None else list(columns)
        filtered = set(re.findall(r"\w+", str(filter)))  # includes all its columns' names
        read = [name for name in self._schema.names if name in names or name in filtered]
        schema = pa.schema([self._schema.field(name) for name in read])
        rows = self._rows(schema, filter)
        return pads.Scanner.from_batches(rows, schema=schema, columns=names, filter=filter)

    def _rows(self, schema: pa.Schema, condition: Any) -> Iterator[pa.RecordBatch]:
        fields = [self._paths[name] for name in schema.names if name in self._paths]
        for source in self._sources:
            try:
                groups = source.row_groups(condition, self._schema)
            except DatasetError as error:
                self._tell(error)
                continue
            for first_row, rows in source.batches(fields or self._least, groups=groups):
                if isinstance(rows, DatasetError):
                    self._tell(rows)
                else:
                    yield self._flat(Batch(rows, first_row), schema)

    def _tell(self, error: DatasetError) -> None:
        try:
            self._refuse(error)
        except DatasetError:
            self.refused = error  # DuckDB passes on only its message
            raise

    def _flat(self, batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
        uid = batch.uid.take(pa.array(batch.row)) if self._least else batch.uid
        columns = [
            uid if name == "video_uid" else batch.field(self._paths[name]) for name in schema.names
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)
