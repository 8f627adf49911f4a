"""The manifest: the list of a run's videos.

A folder of immutable pieces, each written atomically by one `run` that found something new, or by
`remove`: two runs can add to it at once without a lock. The latest row of a uid counts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.config import MetadataConfig
from action100m.errors import UsageError
from action100m.files import ask_for_each, write_atomically
from action100m.processes import call_in_processes
from action100m.runs.folder import RunFolder, read_parquet
from action100m.runs.sidecars.lookup import Sidecars
from action100m.runs.sidecars.metadata import VideoMetadata, uid_of
from action100m.runs.sidecars.transcript import Transcript, read_transcript
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
ROWS_PER_GROUP = 64
"""Rows of a piece that are read together when one of them is looked up."""
_ROWS_PER_PIECE = 16 * ROWS_PER_GROUP  # an interruption loses at most one for each process
_COMPARED = 2**16  # bytes compared at each end of two files of the same size
_REMOVED = -1  # as its size: the video was taken out of the run


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
        videos: the latest row of every uid that was not removed, sorted by uid.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._rows = sorted(_read(folder), key=lambda row: row[0])
        self._gone: dict[Path, bool] = {}
        self._index()

    def _set_rows(self, known: list[tuple[int, Video]], added: int, videos: list[Video]) -> None:
        if videos:
            self._rows = [*known, *((added, video) for video in videos)]
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
                self._earlier_keys[video.uid].add(latest.pop(video.uid).key)
            if video.size != _REMOVED:
                uids[video.path] = video.uid
                latest[video.uid] = video
        self.videos = [latest[uid] for uid in sorted(latest)]

    @property
    def is_empty(self) -> bool:
        """Whether no video was ever added: one whose videos were all removed is not empty."""
        return not self._rows

    def earlier_keys(self, video: Video) -> set[str]:
        """Return the other keys that the video's uid has had."""
        return self._earlier_keys.get(video.uid, set()) - {video.key}

    def existing_files(self) -> list[Path]:
        """Return the paths of the files that exist."""
        paths = [video.path for video in self.videos]
        answers = zip(paths, ask_for_each(Path.exists, paths), strict=True)
        return [path for path, exists in answers if exists]

    def without_file(self, videos: Iterable[Video]) -> set[Video]:
        """Return those of the videos whose file no longer exists; each file is looked at once."""
        asked = list(videos)
        new = [video.path for video in asked if video.path not in self._gone]
        self._gone.update(zip(new, ask_for_each(_is_gone, new), strict=True))
        return {video for video in asked if self._gone[video.path]}

    def add(
        self,
        paths: Sequence[Path],
        config: MetadataConfig | None = None,
        processes: int = 1,
        check: Callable[[Manifest], None] | None = None,
    ) -> list[str]:
        """Add files; those that are known and unchanged are not opened.

        Args:
            paths: paths of video files.
            config: how their metadata and subtitles are read.
            processes: maximum number of processes that read them.
            check: called with the manifest as it will be, before anything is written; may raise.

        Returns:
            Sentences about metadata and subtitles that could not be used.

        Raises:
            UsageError: two files have the same uid.
            ConfigError: the metadata table cannot be used.
            RunStoppedError: a process died.
        """
        sidecars = Sidecars(config or MetadataConfig())
        new = self._find_new(paths, sidecars, processes)
        known, added = self._rows, self._next_time()
        self._set_rows(known, added, [video for video, _ in new])
        if check is not None:
            check(self)
        problems = [text for _, metadata in new for text in metadata.problems]
        placed, more = self._write(new, added, sidecars, processes)
        self._set_rows(known, added, placed)
        return sidecars.doubts((video.path, video.uid) for video in self.videos) + problems + more

    def _find_new(
        self, paths: Sequence[Path], sidecars: Sidecars, processes: int
    ) -> list[tuple[Video, VideoMetadata]]:
        """Return the files that are not known or have changed, in the order of later lookups."""
        known = {video.path: video for video in self.videos}
        sizes = zip(ask_for_each(_size, paths), sidecars.states(paths), strict=True)
        seen = dict(zip(paths, sizes, strict=True))
        unchanged = {
            path: video
            for path in seen
            if (video := known.get(path)) and (video.size, video.sidecar) == seen[path]
        }
        changed = [path for path in seen if path not in unchanged]
        read = dict(zip(changed, sidecars.metadata(changed, processes), strict=True))
        fresh = [Video(uid_of(path, read[path]), path, *seen[path]) for path in changed]
        self._refuse_duplicates([*unchanged.values(), *fresh])
        fresh.sort(key=lambda video: video.uid)  # see Details
        return [(video, read[video.path]) for video in fresh]

    def remove(self, uids: Sequence[str]) -> None:
        """Take videos out of the run; what was done for them is kept, in case they come back.

        Raises:
            UsageError: the run has no video with one of the uids.
        """
        videos = {video.uid: video for video in self.videos}
        if unknown := [uid for uid in dict.fromkeys(uids) if uid not in videos]:
            raise UsageError(f"{self._folder.root} has no video {', '.join(unknown)}.")
        gone = [replace(videos[uid], size=_REMOVED, sidecar="") for uid in sorted({*uids})]
        added = self._next_time()
        rows = [(video, VideoMetadata()) for video in gone]
        _write_piece(self._folder, rows, added, [[]] * len(gone), [])
        self._set_rows(self._rows, added, gone)

    def _next_time(self) -> int:
        """Return the time, in nanoseconds, at which rows are added now: after all others."""
        return max(time.time_ns(), self._rows[-1][0] + 1 if self._rows else 0)

    def _write(
        self,
        new: list[tuple[Video, VideoMetadata]],
        added: int,
        sidecars: Sidecars,
        processes: int,
    ) -> tuple[list[Video], list[str]]:
        """Write pieces with the transcripts.

        Returns:
            The videos with their places, and sentences about what could not be used.
        """
        pieces = [new[k : k + _ROWS_PER_PIECE] for k in range(0, len(new), _ROWS_PER_PIECE)]

        def call(piece: list[tuple[Video, VideoMetadata]]) -> tuple[Any, ...]:
            subtitles = [sidecars.subtitles(video.path) for video, _ in piece]
            return self._folder, piece, added, subtitles, sidecars.languages

        written = call_in_processes(_write_piece, list(map(call, pieces)), processes)
        placed: list[Video] = []
        problems: list[str] = []
        for piece, (file, found) in zip(pieces, written, strict=True):
            placed += [replace(video, place=(file, row)) for row, (video, _) in enumerate(piece)]
            problems += found
        return placed, problems

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


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # decoding it reports why, as for a dangling link
    return False


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


def _write_piece(
    folder: RunFolder,
    videos: list[tuple[Video, VideoMetadata]],
    added: int,
    subtitles: list[list[Path]],
    languages: Sequence[str],
) -> tuple[Path, list[str]]:
    """Write a piece, holding one group's transcripts; return it, and what could not be used."""
    rows = [_to_row(video, metadata, added) for video, metadata in videos]
    name = hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    piece = folder.manifest / f"{name}.parquet"
    problems: list[str] = []

    def transcript(number: int) -> Transcript:
        return read_transcript(videos[number][0].path, subtitles[number], languages)

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, _SCHEMA) as writer:
            for first in range(0, len(rows), ROWS_PER_GROUP):
                group = range(first, min(first + ROWS_PER_GROUP, len(rows)))
                said = ask_for_each(transcript, group)
                problems.extend(text for found in said for text in found.problems)
                whole = [
                    {**rows[n], "transcript": found.row()}
                    for n, found in zip(group, said, strict=True)
                ]
                writer.write_table(pa.Table.from_pylist(whole, schema=_SCHEMA))

    write_atomically(piece, write)
    return piece, problems


def _to_row(video: Video, metadata: VideoMetadata, added: int) -> dict[str, Any]:
    return {
        "uid": video.uid,
        "path": os.fsencode(video.path),
        "size": video.size,
        "sidecar": video.sidecar,
        "metadata": {name: getattr(metadata, name) for name in _METADATA},
        "added": added,
    }
