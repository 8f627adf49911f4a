"""Finding files from inputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from action100m.errors import UsageError
from action100m.runs.discovery import find_videos


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.mp4",
        "b.MKV",
        "notes.txt",
        "a.info.json",
        "no_extension",
        ".hidden.mp4",
        "half.mp4.part",
        "sub/c.webm",
        "sub/[x] 100%d.mp4",
        ".cache/d.mp4",
        "run/e.mp4",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_folders_are_searched_recursively(tree: Path) -> None:
    found = find_videos([tree], leave_out=tree / "run")
    assert names(found, tree) == [
        "a.mp4",
        "b.MKV",
        "no_extension",
        "sub/[x] 100%d.mp4",
        "sub/c.webm",
    ]


def test_a_named_file_is_used_whatever_its_name(tree: Path) -> None:
    (tree / "clip.data").touch()
    inputs = [tree / "clip.data", tree / "sub" / "[x] 100%d.mp4"]
    assert names(find_videos(inputs, leave_out=tree / "run"), tree) == [
        "clip.data",
        "sub/[x] 100%d.mp4",
    ]


def test_files_beside_videos_are_ignored(tree: Path) -> None:
    (tree / "README").write_text("These are my videos.")
    found = find_videos([f"{tree}/*", tree / "notes.txt"], leave_out=tree / "run")
    assert names(found, tree) == [
        "README",  # the glob matches it
        "a.mp4",
        "b.MKV",
        "no_extension",
        "sub/[x] 100%d.mp4",
        "sub/c.webm",
    ]
    assert "README" not in names(find_videos([tree], leave_out=tree / "run"), tree)


def test_overlapping_inputs_give_each_file_once(tree: Path) -> None:
    inputs = [f"{tree}/**/*.webm", f"{tree}/sub", tree / "sub" / "c.webm"]
    assert names(find_videos(inputs, leave_out=tree / "run"), tree) == [
        "sub/[x] 100%d.mp4",
        "sub/c.webm",
    ]


def test_links_are_followed_and_loops_end(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "sub" / "again.mp4").symlink_to(tree / "a.mp4")
    found = find_videos([tree], leave_out=tree / "run")
    assert len(found) == 5
    assert len({os.path.realpath(path) for path in found}) == 5


def test_a_file_is_named_by_itself_rather_than_by_a_link(tree: Path) -> None:
    (tree / "0.mp4").symlink_to(tree / "a.mp4")
    (tree / "1").symlink_to(tree / "sub")
    for inputs in (["0.mp4", "a.mp4"], ["a.mp4", "0.mp4"], ["1", "sub"], ["sub", "1"]):
        found = find_videos([tree / name for name in inputs], leave_out=None)
        assert not any("0.mp4" in str(path) or "/1/" in str(path) for path in found)
    assert names(find_videos([tree / "0.mp4"], leave_out=None), tree) == ["0.mp4"]


def test_missing_inputs_are_named(tree: Path) -> None:
    with pytest.raises(UsageError, match="no_such"):
        find_videos([tree, tree / "no_such*.mp4"], leave_out=tree / "run")
    with pytest.raises(UsageError, match="matches ''"):
        find_videos([""], leave_out=None)
