from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rows import rows_with_briefs, write_rows

Row = dict[str, Any]
BRIEFS = (
    "Stir the sauce",
    "stir the  sauce.",
    "Stir sauce",
    "Cut paper",
    "N/A",
    "n/a",
    "Fold a crane",
    "cut the paper",
    None,
    "Paint a wall",
)


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """Six videos whose annotated segments have the briefs in turn; do not modify."""
    return rows_with_briefs(6, BRIEFS)


@pytest.fixture(scope="session")
def folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same videos in two files."""
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "a.parquet", rows[:4])
    write_rows(folder / "b.parquet", rows[4:])
    return folder


@pytest.fixture(scope="session")
def actions(rows: list[Row]) -> dict[tuple[str, str], str]:
    """The normalised action by video and node, in the dataset's order, computed in plain Python."""
    return {
        (row["video_uid"], node["node_id"]): " ".join(brief.lower().rstrip(".").split())
        for row in rows
        for node in row["nodes"]
        if node["gpt"] and (brief := node["gpt"]["action"]["brief"]) not in {None, "N/A", "n/a"}
    }
