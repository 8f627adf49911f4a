"""Small exports of rows to FiftyOne."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import action100m
from action100m.dataset.fiftyone.write import Export, Written, export_fiftyone
from rows import as_python, batches, write_rows

Row = dict[str, Any]
Sample = dict[str, Any]


def annotated_rows(videos: int = 3) -> list[Row]:
    """Return videos of 53 seconds with actions on every other level."""
    rows = as_python(batches(videos, annotated=True))
    for row in rows:
        for number, node in enumerate(row["nodes"]):
            if node["gpt"] and node["level"] % 2:
                action = {"brief": f"fold {number}", "detailed": "fold it", "actor": "a person"}
                node["gpt"]["action"] = action
        row["metadata"]["transcript"] = [
            {"time": "1.5", "text": "first"},
            {"time": "3.25", "text": "second"},
        ]
    return rows


def export_rows(
    folder: Path,
    rows: list[Row],
    videos: dict[str, Path] | None = None,
    seconds: float = 90.0,
    **options: Any,
) -> tuple[Written, list[Sample]]:
    """Export rows to `folder`/out; return what was written, and the samples as in the JSON."""
    write_rows(folder / "data.parquet", rows)
    dataset = action100m.open(folder / "data.parquet")
    written = export_fiftyone(dataset, folder / "out", Export(videos, seconds, **options))
    return written, json.loads((folder / "out" / "samples.json").read_text("utf-8"))["samples"]
