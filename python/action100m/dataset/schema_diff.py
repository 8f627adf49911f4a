"""Differences between a schema and the published one."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from action100m.schema import SCHEMA


def schema_differences(schema: pa.Schema) -> Iterator[str]:
    """Yield a sentence for each difference between a schema and the published one."""
    yield from _struct_differences("", pa.struct(list(schema)), pa.struct(list(SCHEMA)))


def _struct_differences(path: str, found: pa.StructType, published: pa.StructType) -> Iterator[str]:
    have = [field.name for field in found]
    want = [field.name for field in published]
    for name in want:
        if name not in have:
            yield f"{path}{name} is missing."
    for name in have:
        if name not in want:
            yield f"{path}{name} is not a published field."
        elif have.count(name) > 1:
            yield f"{path}{name} occurs {have.count(name)} times."
    if sorted(have) == sorted(want) and have != want:
        yield f"{path or 'columns: '}the order is {', '.join(have)}, not {', '.join(want)}."
    for name in want:
        if have.count(name) == 1:
            yield from _field_differences(f"{path}{name}", found.field(name), published.field(name))


def _field_differences(path: str, found: pa.Field, published: pa.Field) -> Iterator[str]:
    if not found.nullable:
        yield f"{path} is declared not null, but must be nullable."
    if pa.types.is_struct(found.type) and pa.types.is_struct(published.type):
        yield from _struct_differences(f"{path}.", found.type, published.type)
    elif pa.types.is_list(found.type) and pa.types.is_list(published.type):
        inner, wanted = found.type.value_field, published.type.value_field
        if inner.name != wanted.name:
            yield f"{path}: list elements are named {inner.name}, not {wanted.name}."
        yield from _field_differences(f"{path}.{wanted.name}", inner, wanted)
    elif found.type != published.type:
        yield f"{path} is {_brief(found.type)}, not {_brief(published.type)}."


def _brief(kind: pa.DataType) -> str:
    """Return the name of a type; of a nested type, only that of the outermost."""
    return str(kind).split("<", maxsplit=1)[0]
