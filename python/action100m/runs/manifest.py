"""The manifest: the list of a run's videos.

A folder of immutable pieces, each written atomically by one `run` that found something new: two
runs can add to it at once without a lock. The latest row of a uid counts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.config import MetadataConfig
from action100m.errors import UsageError
from action100m.files import write_atomically
from action100m.runs.folder import RunFolder, read_parquet
from action100m.runs.metadata import VideoMetadata, uid_of
from action100m.runs.sidecars import Sidecars
from action100m.schema import METADATA

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
        ("transcript", METADATA.field("transcript").type),
    ]
)
_INDEX = ["uid", "path", "size", "sidecar", "added"]
_ROWS_PER_PIECE = 10_000
ROWS_PER_GROUP = 64
"""Rows of a piece that are read together when one of them is looked up."""
_THREADS = 16  # that look at files
_FILES_PER_THREAD = 64  # at a time
_COMPARED = 2**16  # bytes compared at each end of two files of the same size


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a run.

    Attributes:
        uid: the sidecar's id, else the file's stem.
        path: absolute path of its file.
        size: size of its file in bytes.
        sidecar: the state of its metadata and subtitle files, "" if there are none: they are read
            again only when this changes.
        place: the manifest's piece, and the row in it, with its metadata (see Details).
    """

    uid: str
    path: Path
    size: int
    sidecar: str
    place: tuple[Path, int] | None = field(default=None, compare=False)

    @property
    def is_unchanged(self) -> bool:
        """Whether its file still has the recorded size."""
        return _size(self.path) == self.size

    @property
    def key(self) -> str:
        """Name of this video's files in a run folder: a hash, so that a uid cannot name a path.

        The size is part of it, the modification time is not: a file copied to another disk is the
        same video, a new download of another size is not.
        """
        return hashlib.sha256(f"{self.uid}\0{self.size}".encode()).hexdigest()[:32]


class Manifest:
    """All rows of a run's manifest.

    Attributes:
        videos: the latest row of every uid, sorted by uid.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._rows = sorted(_read(folder), key=lambda row: row[0])
        self._index()

    def _index(self) -> None:
        latest: dict[str, Video] = {}
        uids: dict[Path, str] = {}
        self._earlier_keys: defaultdict[str, set[str]] = defaultdict(set)
        for _, video in self._rows:
            uid = uids.get(video.path, video.uid)
            if uid != video.uid and uid in latest and latest[uid].path == video.path:
                # A sidecar was added or removed: the file has another uid now.
                self._earlier_keys[uid].add(latest.pop(uid).key)
            if video.uid in latest:
                self._earlier_keys[video.uid].add(latest[video.uid].key)
            uids[video.path] = video.uid
            latest[video.uid] = video
        self.videos = [latest[uid] for uid in sorted(latest)]

    def earlier_keys(self, video: Video) -> set[str]:
        """Return the other keys that the video's uid has had."""
        return self._earlier_keys.get(video.uid, set()) - {video.key}

    def add(self, paths: Iterable[Path], config: MetadataConfig | None = None) -> list[str]:
        """Add files; those that are known and unchanged are not opened.

        Args:
            paths: paths of video files.
            config: how their metadata and subtitles are read.

        Returns:
            Sentences about metadata and subtitles that could not be used.

        Raises:
            UsageError: two files have the same uid.
            ConfigError: the metadata table cannot be used.
        """
        sidecars = Sidecars(config or MetadataConfig())
        known = {video.path: video for video in self.videos}
        problems = sidecars.doubts
        seen = _look_at_all(list(paths), known, sidecars)
        self._refuse_duplicates([video for video, _ in seen])
        new = [(video, metadata) for video, metadata in seen if metadata is not None]
        new.sort(key=lambda each: each[0].uid)  # the order of later lookups, see Details
        problems += [problem for _, metadata in new for problem in metadata.problems]
        for first in range(0, len(new), _ROWS_PER_PIECE):  # an interruption loses at most one
            added = max(time.time_ns(), self._rows[-1][0] + 1 if self._rows else 0)
            some = new[first : first + _ROWS_PER_PIECE]
            placed = _write(self._folder, some, added, sidecars, problems)
            self._rows += [(added, video) for video in placed]
        if new:
            self._index()
        return problems

    def _refuse_duplicates(self, seen: list[Video]) -> None:
        given = {video.path for video in seen}
        others = {video.uid: video for video in self.videos if video.path not in given}
        for video in seen:
            other = others.get(video.uid, video)
            # A known file at another path was moved or copied, or is now named through a link.
            if other is not video and (other.path in given or _is_another(video, other)):
                raise UsageError(
                    f"Two files have the uid {video.uid!r}: {other.path} and {video.path}. "
                    "Rename one, or leave it out."
                )
            others[video.uid] = video


def _look_at_all(
    paths: list[Path], known: dict[Path, Video], sidecars: Sidecars
) -> list[tuple[Video, VideoMetadata | None]]:
    """Look at many at a time: a network file system answers each question late."""

    def look(some: list[Path]) -> list[tuple[Video, VideoMetadata | None]]:
        return [_look_at(path, known.get(path), sidecars) for path in some]

    pieces = [paths[k : k + _FILES_PER_THREAD] for k in range(0, len(paths), _FILES_PER_THREAD)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [seen for some in pool.map(look, pieces) for seen in some]


def _look_at(
    path: Path, known: Video | None, sidecars: Sidecars
) -> tuple[Video, VideoMetadata | None]:
    """Return a file as it is now, and its metadata; None instead if it is unchanged."""
    size = _size(path)
    state = sidecars.state(path)
    if known is not None and (known.size, known.sidecar) == (size, state):
        return known, None
    metadata = sidecars.metadata(path)
    return Video(uid_of(path, metadata), path, size, state), metadata


def _is_another(video: Video, earlier: Video) -> bool:
    """Return whether the earlier path has a file that is not a copy of this one."""
    try:
        if video.path.samefile(earlier.path):
            return False
        return video.size != earlier.size or _ends(video.path) != _ends(earlier.path)
    except OSError:
        return earlier.path.exists()


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        first = file.read(_COMPARED)
        file.seek(max(0, path.stat().st_size - _COMPARED))
        return first, file.read(_COMPARED)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a dangling link, or removed since the folder was read: it will be skipped
        return 0


def _read(folder: RunFolder) -> list[tuple[int, Video]]:
    pieces = sorted(folder.manifest.glob("*.parquet"))
    return [
        _from_row(row, (piece, number))
        for piece in pieces
        for number, row in enumerate(read_parquet(piece, _INDEX).to_pylist())
    ]


def _from_row(row: dict[str, Any], place: tuple[Path, int]) -> tuple[int, Video]:
    path = Path(os.fsdecode(row["path"]))
    return row["added"], Video(row["uid"], path, row["size"], row["sidecar"], place)


def _write(
    folder: RunFolder,
    videos: list[tuple[Video, VideoMetadata]],
    added: int,
    sidecars: Sidecars,
    problems: list[str],
) -> list[Video]:
    """Write a piece and return the videos with their places; holds one group's transcripts."""
    rows = [_to_row(video, metadata, added) for video, metadata in videos]
    name = hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    piece = folder.manifest / f"{name}.parquet"

    def groups() -> Iterator[pa.Table]:
        for first in range(0, len(videos), ROWS_PER_GROUP):
            group = slice(first, first + ROWS_PER_GROUP)
            said = [sidecars.transcript(video.path) for video, _ in videos[group]]
            problems.extend(problem for transcript in said for problem in transcript.problems)
            with_lines = [
                {**row, "transcript": transcript.row()}
                for row, transcript in zip(rows[group], said, strict=True)
            ]
            yield pa.Table.from_pylist(with_lines, schema=_SCHEMA)

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, _SCHEMA) as writer:
            for table in groups():
                writer.write_table(table)

    write_atomically(piece, write)
    return [replace(video, place=(piece, number)) for number, (video, _) in enumerate(videos)]


def _to_row(video: Video, metadata: VideoMetadata, added: int) -> dict[str, Any]:
    return {
        "uid": video.uid,
        "path": os.fsencode(video.path),
        "size": video.size,
        "sidecar": video.sidecar,
        "metadata": {name: getattr(metadata, name) for name in _METADATA},
        "added": added,
    }
