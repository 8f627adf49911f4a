"""A segmentation as one Parquet row: the output of stage 1 for all later stages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from action100m.segmentation.filmstrip import Thumbnail
from action100m.segmentation.stage import Segmentation
from action100m.tree import Dendrogram
from action100m.video import DecodeReport, VideoInfo

_SCHEMA = pa.schema(
    [
        ("times", pa.list_(pa.float64())),
        ("children", pa.list_(pa.int32())),
        ("heights", pa.list_(pa.float64())),
        (
            "info",
            pa.struct(
                [
                    ("width", pa.int32()),
                    ("height", pa.int32()),
                    ("frame_rate", pa.float64()),
                    ("duration", pa.float64()),
                    ("codec", pa.string()),
                    ("container", pa.string()),
                ]
            ),
        ),
        (
            "report",
            pa.struct(
                [
                    ("frames", pa.int64()),
                    ("expected", pa.int64()),
                    ("end", pa.float64()),
                    ("repaired_times", pa.int64()),
                    ("errors", pa.int64()),
                    ("first_error", pa.string()),
                ]
            ),
        ),
        ("thumbnails", pa.list_(pa.struct([("seconds", pa.float64()), ("jpeg", pa.binary())]))),
        ("embeddings", pa.list_(pa.float32())),
    ]
)


WITHOUT_EMBEDDINGS = [name for name in _SCHEMA.names if name != "embeddings"]
"""Columns for readers that do not need the embeddings, which may be a hundred times larger."""


def to_table(segmentation: Segmentation) -> pa.Table:
    """Convert a segmentation to a table with one row."""
    embeddings = segmentation.embeddings
    columns = {
        "times": _one_list(segmentation.times, pa.float64()),
        "children": _one_list(segmentation.dendrogram.children.ravel(), pa.int32()),
        "heights": _one_list(segmentation.dendrogram.heights, pa.float64()),
        "info": [asdict(segmentation.info)],
        "report": [asdict(segmentation.report)],
        "thumbnails": [[thumbnail._asdict() for thumbnail in segmentation.thumbnails]],
        "embeddings": [None] if embeddings is None else _one_list(embeddings.ravel(), pa.float32()),
    }
    return pa.table(columns, schema=_SCHEMA)


def from_table(table: pa.Table) -> Segmentation:
    """Convert a table with one row to a segmentation; the column "embeddings" is optional."""
    row: dict[str, Any] = {name: table.column(name)[0] for name in table.column_names}
    times = row["times"].values.to_numpy()
    embeddings = row["embeddings"].values if "embeddings" in row else None
    return Segmentation(
        dendrogram=Dendrogram(
            children=row["children"].values.to_numpy().astype(np.int64).reshape(-1, 2),
            heights=row["heights"].values.to_numpy(),
        ),
        times=times,
        info=VideoInfo(**row["info"].as_py()),
        report=DecodeReport(**row["report"].as_py()),
        thumbnails=[Thumbnail(**thumbnail) for thumbnail in row["thumbnails"].as_py()],
        embeddings=None if embeddings is None else embeddings.to_numpy().reshape(len(times), -1),
    )


def _one_list(values: Any, kind: pa.DataType) -> pa.Array:
    flat = pa.array(values, type=kind)
    return pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)
