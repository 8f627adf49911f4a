"""The schema against the published one, written down independently."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from action100m import schema

PUBLISHED = """
video_uid: string
metadata: struct<title: string, description: string, view_count: int64, like_count: int64,
    duration: int64, upload_date: string,
    transcript: list<element: struct<time: string, text: string>>>
nodes: list<element: struct<
    node_id: string, parent_id: string, level: int16, start: float, end: float,
    plm_action: string, plm_caption: string, llama3_caption: string,
    gpt: struct<summary: struct<brief: string, detailed: string>,
                action: struct<brief: string, detailed: string, actor: string>>>>
"""


def test_the_schema_is_the_published_one() -> None:
    spelled = "\n".join(f"{field.name}: {field.type}" for field in schema.SCHEMA)
    assert "".join(spelled.split()) == "".join(PUBLISHED.split())


def test_every_field_may_be_null() -> None:
    def fields(kind: pa.DataType) -> list[pa.Field]:
        inner = list(kind) if pa.types.is_struct(kind) else []
        inner += [kind.value_field] if pa.types.is_list(kind) else []
        return inner + [below for field in inner for below in fields(field.type)]

    everything = fields(pa.struct(list(schema.SCHEMA)))
    assert len(everything) == 30
    assert all(field.nullable for field in everything)


def test_stored_times_of_a_day_give_the_hundredths_that_they_were_rounded_to() -> None:
    hundredths = np.arange(24 * 3600 * 100)
    stored = (hundredths / 100).astype(np.float32)
    assert np.array_equal(schema.to_hundredths(stored), hundredths)
    assert [schema.stored_time(stored[h]) for h in hundredths[::99_991]] == [
        h / 100 for h in hundredths[::99_991].tolist()
    ]


def test_halves_are_rounded_to_even_because_node_ids_are_made_of_these_times() -> None:
    assert schema.to_hundredths(np.array([0.125, 0.375, -0.125])).tolist() == [12, 38, -12]
