"""Find the video files that files, folders and globs name."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from action100m.dataset.clips.write import ASKED, TABLE
from action100m.dataset.fiftyone.card import CONFIG
from action100m.errors import UsageError
from action100m.files import RUN_SETTINGS, absolute, is_run_folder, matches, walk
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.sidecars.metadata import read_sidecar, uid_of

# fmt: off
_EXTENSIONS = frozenset([
    ".264", ".265", ".3g2", ".3gp", ".asf", ".av1", ".avi", ".divx", ".dv", ".f4v", ".flv",
    ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb",
    ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
])
# Files kept next to videos, which a glob or a shell's * also matches.
_SIDE_FILES = frozenset([
    ".ass", ".csv", ".description", ".jpeg", ".jpg", ".json", ".json3", ".lrc", ".md", ".part",
    ".png", ".srt", ".srv1", ".srv2", ".srv3", ".tsv", ".ttml", ".txt", ".vtt", ".webp", ".ytdl",
])
# fmt: on


def find_videos(
    inputs: Iterable[str | Path],
    *,
    leave_out: Path | None,
    tell: Callable[[Path], object] = lambda folder: None,
) -> list[Path]:
    """Return the absolute paths of the video files, sorted; of a file's names, one without links.

    Args:
        inputs: files and glob patterns (side files, such as subtitles and pictures, are ignored),
            and folders (searched recursively for files with a video extension, or without an
            extension if they are not text; hidden files and folders are ignored, as are subfolders
            that hold a run, an export to FiftyOne or clips).
        leave_out: a folder that is not searched, such as the run's own, or None.
        tell: called with each subfolder that is ignored because of what it holds.

    Raises:
        UsageError: an input matches no file or folder.
    """
    # resolve() would raise an error of its own for a link to itself.
    ours = None if leave_out is None else Path(os.path.realpath(leave_out))
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(str(given), ours, tell):
            if path.suffix.lower() in _SIDE_FILES:
                continue
            real, name = os.path.realpath(path), absolute(path)
            other = found.setdefault(real, name)
            if other != name:
                found[real] = min(other, name, key=lambda each: _distance(each, real))
    return sorted(found.values())


def _distance(name: Path, real: str) -> tuple[bool, bool, Path]:
    """Return what orders the names of one file, whatever the order in which they are found."""
    return str(name) != real, name.is_symlink(), name


def videos_by_uid(inputs: Iterable[str | Path]) -> dict[str, Path]:
    """Return the video files by uid: the sidecar's id, else the file's stem.

    Raises:
        UsageError: an input matches no file or folder, or two files have the same uid.
    """
    found: dict[str, Path] = {}
    for path in find_videos(inputs, leave_out=None):
        uid = uid_of(path, read_sidecar(path))
        if uid in found:
            raise UsageError(f"Two files have the uid {uid!r}: {found[uid]} and {path}.")
        found[uid] = path
    return found


def local_videos(
    places: Iterable[str | Path],
    folders: Iterable[str | Path],
    uids: Container[str] | None = None,
) -> dict[str, Path]:
    """Return by uid the video files of the run folders among `places`, and those in `folders`.

    Of the runs' videos, changed files are left out, and so are those not in `uids`, if given.

    Raises:
        UsageError: a folder does not exist, or two files in `folders` have the same uid.
    """
    found = [path for place in places for path in matches(str(place))]
    runs = [path for path in found if is_run_folder(path)]
    known = [video for run in runs for video in Manifest(RunFolder(run)).videos]
    meant = (video for video in known if uids is None or video.uid in uids)
    here = {video.uid: video.path for video in meant if video.is_unchanged}
    return here | videos_by_uid(folders)


def _expand(given: str, leave_out: Path | None, tell: Callable[[Path], object]) -> Iterator[Path]:
    def is_left_out(folder: Path) -> bool:
        ours = folder != leave_out and _is_ours(folder)
        if ours:
            tell(folder)
        return ours or folder == leave_out

    paths = matches(given)
    if not paths:
        raise UsageError(f"No file or folder matches {given!r}.")
    for path in paths:
        if path.is_dir() and path.resolve() != leave_out:
            yield from filter(_may_be_video, walk(path, is_left_out))
        elif not path.is_dir():
            yield path


def _is_ours(folder: Path) -> bool:
    """Return whether the folder holds a run, an export or clips, which are made from videos."""
    marks = (RUN_SETTINGS, "manifest"), (CONFIG,), (TABLE, ASKED)
    return any(all((folder / name).exists() for name in names) for names in marks)


def _may_be_video(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in _EXTENSIONS
    if path.exists() and not path.is_file():
        return False  # opening a pipe would block
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return True  # the decoder will report the error
    return not head or any(byte < 32 and byte not in b"\t\r\n" for byte in head)
