"""The published Arrow schema, field by field, and the constants that belong to the format."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MIN_SEGMENT = 0.5  # seconds; the shortest segment, except for a video's lone root
MIN_ANNOTATED = 4.0  # seconds; inner nodes that last at least this have `gpt`
NO_ACTION = "N/A"  # value of `gpt.action` if no action is visible
NO_ACTION_SPELLINGS = r"n ?[/\\.|-]? ?a|none|null|not applicable|no action"
"""A regular expression, in lower case, for what models and published rows contain instead."""
HUNDREDTHS = 100  # in a second; node times are rounded to them, then stored as float32


def _list(value: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", value))


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


TRANSCRIPT_LINE = _struct(time=pa.string(), text=pa.string())

METADATA = _struct(
    title=pa.string(),
    description=pa.string(),
    view_count=pa.int64(),
    like_count=pa.int64(),
    duration=pa.int64(),
    upload_date=pa.string(),
    transcript=_list(TRANSCRIPT_LINE),
)

GPT = _struct(
    summary=_struct(brief=pa.string(), detailed=pa.string()),
    action=_struct(brief=pa.string(), detailed=pa.string(), actor=pa.string()),
)

NODE = _struct(
    node_id=pa.string(),
    parent_id=pa.string(),
    level=pa.int16(),
    start=pa.float32(),
    end=pa.float32(),
    plm_action=pa.string(),
    plm_caption=pa.string(),
    llama3_caption=pa.string(),
    gpt=GPT,
)

SEGMENT_COLUMNS = {
    field.name: (f"nodes.{field.name}", field.type) for field in NODE if field.name != "gpt"
} | {
    "actor" if field.name == "actor" else f"{part.name}_{field.name}": (
        f"nodes.gpt.{part.name}.{field.name}",
        field.type,
    )
    for part in GPT
    for field in part.type
}
"""The fields of a node as flat columns: by name, the path in the schema and the type."""

SEGMENT_TEXTS = {
    name: path
    for name, (path, kind) in SEGMENT_COLUMNS.items()
    if pa.types.is_string(kind) and not name.endswith("_id")
}
"""The paths of those columns that contain texts about a segment."""

SCHEMA = pa.schema([("video_uid", pa.string()), ("metadata", METADATA), ("nodes", _list(NODE))])


def to_hundredths(seconds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round times to whole hundredths of a second, whether they are stored or not rounded yet."""
    rounded: NDArray[np.float64] = np.rint(seconds.astype(np.float64) * HUNDREDTHS)
    return rounded


def stored_time(seconds: float) -> float:
    """Return the time, with two decimals, that a float32 of a node stands for."""
    return round(float(seconds), 2)
