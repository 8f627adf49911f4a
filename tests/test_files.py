"""Files are written completely or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from action100m.files import absolute, write_atomically, write_text


def test_a_failed_write_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        write_atomically(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_names_the_target_not_the_temporary_file(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(tmp_path / "file", fail)
    assert caught.value.filename == str(tmp_path / "file")


def test_an_absolute_path_is_that_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "a" / "deep")
    (tmp_path / "x.mp4").symlink_to(tmp_path / "nowhere")
    for given, meant in (
        ("b/./link/x.mp4", "b/link/x.mp4"),
        ("b/../x.mp4", "x.mp4"),
        ("b/link/../x.mp4", "a/x.mp4"),
        ("b/link/..", "a"),
        ("missing/../x.mp4", "x.mp4"),
    ):
        assert absolute(tmp_path / given) == tmp_path / meant
