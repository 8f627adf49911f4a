"""Map published fields to the columns of a Parquet file, and values back to published types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from action100m.schema import SCHEMA


class Projection:
    """The fields of the published schema that are read from one file.

    Columns that the published schema does not have are ignored; `video_uid` is always read.

    Attributes:
        columns: leaf columns by path in the file; None: all.
    """

    def __init__(
        self, columns: Sequence[str] | None, arrow: pa.Schema, fields: Iterable[str] | None
    ) -> None:
        """Find the fields in the file.

        Args:
            columns: paths of the file's leaf columns, in order; None for data that is not Parquet.
            arrow: schema of the file.
            fields: dotted paths, such as "nodes.level"; None: all.

        Raises:
            ValueError: the published schema has no such field, or the file lacks it or has it with
                another type.
        """
        wanted = None if fields is None else {"video_uid", *fields}
        self._schema = SCHEMA if wanted is None else _pruned_schema(wanted)
        for name in self._schema.names:
            if arrow.names.count(name) > 1:
                raise ValueError(f"It has {name} twice; it is not in the published format.")
        there, published = _fields(arrow), _fields(self._schema)
        # A writer without a schema, such as pandas, gives a field that is null everywhere no type.
        null = [path for path, kind in there.items() if pa.types.is_null(kind)]
        typed = {
            path: kind
            for path, kind in published.items()
            if not any(path == empty or path.startswith(f"{empty}.") for empty in null)
        }
        if missing := [path for path in typed if path not in there]:
            raise ValueError(f"It has no {', '.join(missing)}; it is not in the published format.")
        for path, kind in typed.items():
            if not _castable(there[path], kind):
                raise ValueError(f"{path} is {there[path]}, but {kind} in the published format.")
        self.columns = None if columns is None else _columns(columns, arrow, {*typed, *null})

    def published(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with the requested fields only, in published order and types."""
        arrays = [_as(rows.column(field.name), field.type) for field in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _pruned_schema(wanted: set[str]) -> pa.Schema:
    for path in wanted:
        if not any(path == name or name.startswith(f"{path}.") for name in _fields(SCHEMA)):
            raise ValueError(f"The published format has no field {path}.")
    return pa.schema(
        [
            pa.field(field.name, kind)
            for field in SCHEMA
            if (kind := _pruned(field.type, field.name, wanted)) is not None
        ]
    )


def _pruned(kind: pa.DataType, path: str, wanted: set[str]) -> pa.DataType | None:
    """Return the wanted part of a type; None if nothing of it is wanted."""
    if path in wanted:
        return kind
    if pa.types.is_list(kind):
        inner = _pruned(kind.value_type, path, wanted)
        return None if inner is None else pa.list_(pa.field(kind.value_field.name, inner))
    if not pa.types.is_struct(kind):
        return None
    kept = [(f.name, _pruned(f.type, f"{path}.{f.name}", wanted)) for f in kind]
    fields = [(name, inner) for name, inner in kept if inner is not None]
    return pa.struct(fields) if fields else None


def _leaves(kind: pa.DataType, path: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Yield every leaf with its dotted path (without lists), in the order of Parquet's columns."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(kind.value_type, path)
    elif pa.types.is_struct(kind):
        prefix = f"{path}." if path else ""
        for field in kind:
            yield from _leaves(field.type, f"{prefix}{field.name}")
    else:
        yield path, kind


def _fields(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(_leaves(pa.struct(list(schema))))


def _columns(columns: Sequence[str], arrow: pa.Schema, wanted: set[str]) -> list[str]:
    """Return the paths in the file, where the elements of lists may have any name."""
    found: list[str] = []
    at = 0
    for path, kind in _leaves(pa.struct(list(arrow))):
        width = _width(kind)
        found += columns[at : at + width] if path in wanted else []
        at += width
    return found


def _width(kind: pa.DataType) -> int:
    """Return the number of Parquet columns of a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if not pa.types.is_nested(kind):
        return 1
    return sum(_width(kind.field(at).type) for at in range(kind.num_fields))


def _castable(found: pa.DataType, published: pa.DataType) -> bool:
    if found == published:
        return True
    if pa.types.is_dictionary(found):
        return _castable(found.value_type, published)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if pa.types.is_string(published):
        return any(is_text(found) for is_text in texts)
    return bool(
        (pa.types.is_integer(found) and pa.types.is_integer(published))
        or (pa.types.is_floating(found) and pa.types.is_floating(published))
    )


def _as(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the values as another type, by name in structs; raise ArrowInvalid if one is unfit."""
    if values.type == kind:
        return values
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), kind)
    if pa.types.is_struct(kind):
        parts = [_as(values.field(field.name), field.type) for field in kind]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=values.is_null())
    if pa.types.is_list(kind):
        offsets = pa.array(values.offsets.to_numpy().astype(np.int32))  # slices take no mask
        inner = _as(values.values, kind.value_type)
        return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=values.is_null())
    return values.cast(kind)
