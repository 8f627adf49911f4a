"""The manifest over several runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from action100m.errors import UsageError
from action100m.runs.details import Details
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest


def make(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(path.name.encode("utf-8", "surrogateescape"))
    return paths


def test_rows_are_added_once_and_never_rewritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    Manifest(folder).add(make(tmp_path, "a.mp4", "b.mp4"))
    pieces = {path: path.read_bytes() for path in folder.manifest.iterdir()}
    Manifest(folder).add(make(tmp_path, "a.mp4", "b.mp4"))
    assert set(folder.manifest.iterdir()) == set(pieces)
    Manifest(folder).add(make(tmp_path, "c.mp4"))
    assert [video.uid for video in Manifest(folder).videos] == ["a", "b", "c"]
    assert all(path.read_bytes() == content for path, content in pieces.items())


def test_concurrent_additions_lose_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    groups = [make(tmp_path / str(k), *(f"{k}_{i}.mp4" for i in range(5))) for k in range(8)]
    threads = [threading.Thread(target=Manifest(folder).add, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Manifest(folder).videos) == 40


def test_a_new_file_of_the_same_name_has_another_key(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    [path] = make(tmp_path, "a.mp4")
    Manifest(folder).add([path])
    [before] = Manifest(folder).videos
    path.write_bytes(b"something longer")
    manifest = Manifest(folder)
    manifest.add([path])
    [after] = manifest.videos
    assert after.key != before.key
    assert manifest.earlier_keys(after) == {before.key}


def test_any_file_name_is_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    odd = ["имя é.mp4", "-dash.mp4", "a%03d.mp4", "q'\".mp4", "new\nline.mp4"]
    odd += [os.fsdecode(b"\xff\xfe.mp4")]
    Manifest(folder).add(make(tmp_path, *odd))
    assert {video.path.name for video in Manifest(folder).videos} == set(odd)


def test_an_error_about_a_duplicate_uid_names_both_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    Manifest(folder).add(make(tmp_path / "x", "a.mp4"))
    with pytest.raises(UsageError, match=r"x/a\.mp4.*y/a\.mkv"):
        Manifest(folder).add(make(tmp_path / "y", "a.mkv"))


def test_several_processes_read_what_one_does(tmp_path: Path) -> None:
    names = [f"{number:04}" for number in range(2100)]  # more than a piece and more than a call
    paths = make(tmp_path, *(f"{name}.mp4" for name in names))
    for name, path in zip(names, paths, strict=True):
        path.with_suffix(".info.json").write_text(f'{{"id": "v{name}", "view_count": -1}}')
        path.with_suffix(".srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\nSaid in {name}.\n")
    paths[-1].with_suffix(".srt").write_text("nothing")
    found = []
    for processes in (1, 2):
        folder = RunFolder(tmp_path / f"run{processes}")
        problems = Manifest(folder).add(paths, processes=processes)
        assert len(problems) == 2101
        details = Details()
        videos = Manifest(folder).videos
        found.append((problems, [(v.uid, details.transcript(v)) for v in videos]))
    assert found[0] == found[1]
    assert found[0][1][-2] == ("v2098", [{"time": "1", "text": "Said in 2098."}])


def test_a_file_is_gone_only_if_its_name_is(tmp_path: Path) -> None:
    manifest = Manifest(RunFolder(tmp_path / "run"))
    here, gone, dangling = make(tmp_path, "here.mp4", "gone.mp4", "dangling.mp4")
    manifest.add([here, gone, dangling])
    gone.unlink()
    dangling.unlink()
    dangling.symlink_to("nowhere")
    assert {video.path for video in manifest.without_file(manifest.videos)} == {gone}
    assert manifest.existing_files() == [here]
