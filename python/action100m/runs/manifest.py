"""The manifest: which videos a run is about.

A folder of immutable pieces, each written whole by one `run` that found something new: two runs
can add to it at once without a lock. The latest row of a uid counts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.files import write_atomically
from action100m.runs.errors import UsageError
from action100m.runs.folder import RunFolder, read_parquet
from action100m.runs.metadata import VideoMetadata, read_sidecar, sidecar_path, uid_of

_METADATA = {
    "id": pa.string(),
    "title": pa.string(),
    "description": pa.string(),
    "view_count": pa.int64(),
    "like_count": pa.int64(),
    "duration": pa.int64(),
    "upload_date": pa.string(),
}
_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("path", pa.binary()),  # a file name need not be valid UTF-8
        ("size", pa.int64()),
        ("sidecar", pa.string()),
        ("metadata", pa.struct(list(_METADATA.items()))),
        ("added", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        uid: the sidecar's id, else the file's stem.
        path: absolute.
        size: bytes.
        sidecar: size and modification time of the sidecar, "" without one: it is read again only
            when this changes.
        metadata: what the sidecar says.
    """

    uid: str
    path: Path
    size: int
    sidecar: str
    metadata: VideoMetadata

    @property
    def key(self) -> str:
        """Names the files of this video in a run folder; no uid can name a path.

        The size is part of it, the modification time is not: a file copied to another disk is the
        same video, a file downloaded anew is not.
        """
        return hashlib.sha256(f"{self.uid}\0{self.size}".encode()).hexdigest()[:32]


class Manifest:
    """All rows of a run's manifest.

    Attributes:
        videos: the latest row of every uid, sorted by uid.
        earlier_keys: by uid, the keys of the rows that a later one replaced.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._rows = sorted(_read(folder), key=lambda row: row[0])
        self._index()

    def _index(self) -> None:
        latest: dict[str, Video] = {}
        keys: dict[str, set[str]] = {}
        uids: dict[Path, str] = {}
        for _, video in self._rows:
            former = latest.get(uids.get(video.path, video.uid))
            if former is not None and former.path == video.path:
                del latest[former.uid]  # a sidecar came or went: the file has another uid now
            uids[video.path] = video.uid
            latest[video.uid] = video
            keys.setdefault(video.uid, set()).add(video.key)
        self.videos = [latest[uid] for uid in sorted(latest)]
        self.earlier_keys = {uid: keys[uid] - {video.key} for uid, video in latest.items()}

    def add(self, paths: Iterable[Path]) -> list[str]:
        """Take in files; one that is known and unchanged is not opened.

        Returns:
            Plain sentences about sidecars that could not be used.

        Raises:
            UsageError: two files have one uid.
        """
        known = {video.path: video for video in self.videos}
        problems: list[str] = []
        seen = [_look_at(path, known.get(path), problems) for path in paths]
        self._refuse_duplicates(seen)
        new = [video for video in seen if known.get(video.path) != video]
        if new:
            added = max(time.time_ns(), self._rows[-1][0] + 1 if self._rows else 0)
            _write(self._folder, new, added)
            self._rows += [(added, video) for video in new]
            self._index()
        return problems

    def _refuse_duplicates(self, seen: list[Video]) -> None:
        paths = {video.uid: video.path for video in self.videos}
        here = {video.path for video in seen}
        for video in seen:
            other = paths.get(video.uid, video.path)
            # A file that moved keeps its uid; one that still stands at the old place is another.
            if other != video.path and (other in here or other.exists()):
                raise UsageError(
                    f"Two files have the uid {video.uid!r}: {other} and {video.path}. "
                    "Rename one, or leave it out."
                )
            paths[video.uid] = video.path


def _look_at(path: Path, known: Video | None, problems: list[str]) -> Video:
    size = _size(path)
    sidecar = _state_of(sidecar_path(path))
    if known is not None and (known.size, known.sidecar) == (size, sidecar):
        return known
    metadata = read_sidecar(path)
    problems += metadata.problems
    return Video(uid_of(path, metadata), path, size, sidecar, replace(metadata, problems=()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nowhere, or gone since the folder was read: it will be skipped
        return 0


def _state_of(sidecar: Path) -> str:
    try:
        state = sidecar.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def _read(folder: RunFolder) -> list[tuple[int, Video]]:
    pieces = sorted(folder.manifest.glob("*.parquet"))
    return [_from_row(row) for piece in pieces for row in read_parquet(piece).to_pylist()]


def _from_row(row: dict[str, Any]) -> tuple[int, Video]:
    path = Path(os.fsdecode(row["path"]))
    metadata = VideoMetadata(**row["metadata"])
    return row["added"], Video(row["uid"], path, row["size"], row["sidecar"], metadata)


def _write(folder: RunFolder, videos: list[Video], added: int) -> None:
    rows = [
        {
            "uid": video.uid,
            "path": os.fsencode(video.path),
            "size": video.size,
            "sidecar": video.sidecar,
            "metadata": {name: getattr(video.metadata, name) for name in _METADATA},
            "added": added,
        }
        for video in videos
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    name = hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    write_atomically(folder.manifest / f"{name}.parquet", lambda path: pq.write_table(table, path))
