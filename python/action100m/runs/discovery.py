"""Files, folders and globs in; the video files that they mean out."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from action100m.errors import UsageError
from action100m.files import absolute, matches, walk
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.metadata import read_sidecar, uid_of

# fmt: off
_EXTENSIONS = frozenset([
    ".264", ".265", ".3g2", ".3gp", ".asf", ".av1", ".avi", ".divx", ".dv", ".f4v", ".flv",
    ".h264", ".h265", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb",
    ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m",
])
# What stands beside videos: a glob or a shell's * names these too.
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
    """Absolute paths of the video files, each once, sorted.

    Args:
        inputs: files and glob patterns (side files, such as subtitles and pictures, are left out),
            and folders (walked whole: files with a video's extension, and those without any that
            are no text; left out are hidden ones, and folders in it that hold a run, an export to
            FiftyOne or clips).
        leave_out: a folder not to walk into: the run's own; None: none.
        tell: hears of each folder that is left out for what it holds.

    Raises:
        UsageError: an input names no file.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(str(given), leave_out and leave_out.resolve(), tell):
            if path.suffix.lower() in _SIDE_FILES:
                continue
            found.setdefault(os.path.realpath(path), absolute(path))
    return sorted(found.values())


def videos_by_uid(inputs: Iterable[str | Path]) -> dict[str, Path]:
    """The video files by uid: the sidecar's id, else the file's stem.

    Raises:
        UsageError: an input names no file, or two files have one uid.
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
    """The video files by uid: those that the run folders among `places` know, and `folders` hold.

    A file that is another than the run has seen is left out; so are, of runs, all but `uids`.

    Raises:
        UsageError: a folder is not there, or two files have one uid.
    """
    found = [path for place in places for path in matches(str(place))]
    runs = [path for path in found if (path / "run.toml").is_file()]
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
        raise UsageError(f"There is no file, folder or match for {given!r}.")
    for path in paths:
        if path.is_dir() and path.resolve() != leave_out:
            yield from filter(_may_be_video, walk(path, is_left_out))
        elif not path.is_dir():
            yield path


def _is_ours(folder: Path) -> bool:
    """Whether a run, an export or clips lie there: what is made of videos is none to begin with."""
    marks = ("run.toml", "manifest"), ("fiftyone.yml",), ("clips.parquet", "asked.json")
    return any(all((folder / name).exists() for name in names) for names in marks)


def _may_be_video(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in _EXTENSIONS
    if path.exists() and not path.is_file():
        return False  # a pipe would be waited for
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return True  # whoever decodes it will say what is wrong
    return not head or any(byte < 32 and byte not in b"\t\r\n" for byte in head)
