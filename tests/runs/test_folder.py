"""Writes that stand whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from action100m.runs.folder import RunFolder, write_atomically, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_atomically(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_only_what_was_left_long_ago_is_swept(tmp_path: Path) -> None:
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
