from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from action100m.dataset.write import write_shards
from rows import as_python, batches

VIDEOS = 12


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Twelve annotated videos; do not modify."""
    return as_python(batches(VIDEOS, annotated=True))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same videos in shards of five."""
    folder = tmp_path_factory.mktemp("dataset") / "data"
    write_shards(batches(VIDEOS, annotated=True), folder, VIDEOS, {}, 5)
    return folder
