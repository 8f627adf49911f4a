"""Make small datasets in the published schema, as Python rows that tests break on purpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from action100m import Tree
from action100m.dataset.write import node_rows, video_row
from action100m.schema import GPT, SCHEMA
from trees import random_tree

METADATA = {"title": "Crane", "duration": 53, "upload_date": "20200131", "view_count": 7}


def annotate(tree: Tree) -> dict[str, pa.Array]:
    """Return captions and gpt for the nodes that should have them, in made-up words."""
    words = [f"words about node {n}" for n in range(len(tree))]
    gpt = {
        "summary": {"brief": "a summary", "detailed": "a longer summary"},
        "action": {"brief": "N/A", "detailed": "N/A", "actor": "a person"},
    }
    annotated = ~tree.is_leaf & (np.round(tree.duration, 6) >= 4.0)
    return {
        "plm_action": pa.array(words),
        "plm_caption": pa.array([None, *words[1:]], pa.string()),
        "llama3_caption": pa.array(words, mask=~tree.is_leaf),
        "gpt": pa.array([gpt if given else None for given in annotated], GPT),
    }


def batches(videos: int, *, annotated: bool = False) -> Iterator[pa.RecordBatch]:
    """Yield one row per video, in uid order; number 3 is a lone root under half a second."""
    for number in range(videos):
        uid = f"video{number:04d}"
        tree = random_tree(3 if number == 3 else 400, seed=number)
        yield video_row(uid, METADATA, node_rows(uid, tree, annotate(tree) if annotated else None))


def as_python(rows: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Return the rows as dicts."""
    found: list[dict[str, Any]] = pa.Table.from_batches(rows, SCHEMA).to_pylist()
    return found


def rows_with_briefs(videos: int, briefs: Sequence[str | None]) -> list[dict[str, Any]]:
    """Return videos whose annotated segments have the brief actions in turn."""
    rows = as_python(batches(videos, annotated=True))
    annotated = [node for row in rows for node in row["nodes"] if node["gpt"]]
    for number, node in enumerate(annotated):
        node["gpt"]["action"]["brief"] = briefs[number % len(briefs)]
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> Path:
    """Write rows with pyarrow alone, in row groups of two."""
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=2)
    return path
