"""Temporary files of writers that were killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from action100m.runs.folder import RunFolder


def test_only_old_temporary_files_are_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    place = tmp_path / "parts" / "segment" / "f" / "ab"
    place.mkdir(parents=True)
    old, new, part = place / ".tmp-1", place / ".tmp-2", place / "abc.parquet"
    for path in (old, new, part):
        path.touch()
    for path in (old, part):
        os.utime(path, (0, time.time() - 48 * 3600))
    folder.sweep()
    assert sorted(place.iterdir()) == [new, part]
