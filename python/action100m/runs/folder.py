"""The run folder: where every file is, and how it is written atomically.

A file that exists is complete: it was written under a temporary name in the same folder, synced,
and renamed. Nothing else marks work as done, so resuming needs only directory listings.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.errors import RunStoppedError
from action100m.files import RUN_SETTINGS, TEMPORARY, require_utf8, write_atomically, write_text
from action100m.locks import claimed
from action100m.text import first_line

_ABANDONED_AFTER = 24 * 3600.0  # seconds; much longer than any write takes


@dataclass(frozen=True)
class StageKey:
    """A stage with one configuration.

    Attributes:
        name: "segment", "caption" or "aggregate".
        fingerprint: hash of everything that determines the contents of its parts.
    """

    name: str
    fingerprint: str

    @property
    def reads_files(self) -> bool:
        """Whether it needs the video files: stage 3 reads only parts and the manifest."""
        return self.name != "aggregate"


@dataclass(frozen=True)
class Failure:
    """What is used of the record of a video's failure.

    Attributes:
        reason: a sentence.
        coverage: share of the frames that could be decoded, if that was the reason; else None.
        attempts: number of runs in which the video failed.
    """

    reason: str = "The record of this failure cannot be read."
    coverage: float | None = None
    attempts: int = 0


_TYPES: dict[str, Any] = {"reason": str, "coverage": (int, float), "attempts": int}


class RunFolder:
    """Paths, listings and atomic writes of one run folder.

    Raises:
        UsageError: its path is not valid UTF-8.
    """

    def __init__(self, root: Path) -> None:
        require_utf8(root)
        self.root = root

    @property
    def settings_file(self) -> Path:
        return self.root / RUN_SETTINGS

    @property
    def manifest(self) -> Path:
        return self.root / "manifest"

    @property
    def manifest_lock(self) -> Path:
        return self.root / ".manifest.lock"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def part(self, stage: StageKey, key: str) -> Path:
        """Return the path of a stage's result for a video, which exists once it is done."""
        return self._stage("parts", stage) / key[:2] / f"{key}.parquet"

    def failure(self, stage: StageKey, key: str) -> Path:
        """Return the path of the record of why a stage failed for a video."""
        return self._stage("failures", stage) / key[:2] / f"{key}.json"

    def journal(self, stage: StageKey, key: str) -> Path:
        """Return the folder of a stage's work on an unfinished video; removed once it is done."""
        return self._stage("journal", stage) / key[:2] / key

    def claim(self, stage: StageKey, key: str) -> AbstractContextManager[bool]:
        """Claim a video; False if another run, here or on another machine, has claimed it."""
        return claimed(self._stage("claims", stage) / key[:2] / key)

    def _stage(self, kind: str, stage: StageKey) -> Path:
        return self.root / kind / stage.name / stage.fingerprint

    def done_keys(self, stage: StageKey) -> set[str]:
        """Return the keys of the videos whose part exists."""
        return set(_keys(self._stage("parts", stage), ".parquet"))

    def part_states(self, stage: StageKey) -> dict[str, tuple[int, int]]:
        """Return the size and the modification time of every part, by key."""
        entries = _entries(self._stage("parts", stage), ".parquet")
        found = ((entry.name.removesuffix(".parquet"), entry.stat()) for entry in entries)
        return {key: (state.st_size, state.st_mtime_ns) for key, state in found}

    def done_keys_elsewhere(self, stage: StageKey) -> set[str]:
        """Return the keys of the videos that have a part of another configuration."""
        return {key for other in self.others(stage) for key in self.done_keys(other)}

    def others(self, stage: StageKey) -> list[StageKey]:
        """Return the same stage for every other configuration that has data in this folder."""
        kinds = ("parts", "journal")
        names = {name for kind in kinds for name in _subfolders(self.root / kind / stage.name)}
        return [StageKey(stage.name, name) for name in sorted(names - {stage.fingerprint})]

    def failed_keys(self, stage: StageKey) -> set[str]:
        """Return the keys of the videos with a recorded failure."""
        return set(_keys(self._stage("failures", stage), ".json"))

    def unfinished_keys(self, stage: StageKey) -> set[str]:
        """Return the keys of the videos that are not done and have a journal."""
        return set(_keys(self._stage("journal", stage), "")) - self.done_keys(stage)

    def commit_part(self, stage: StageKey, key: str, table: pa.Table) -> None:
        """Write a part; remove the video's failure and journal. Committing twice is harmless."""
        write_atomically(self.part(stage, key), lambda path: pq.write_table(table, path))
        self.failure(stage, key).unlink(missing_ok=True)
        shutil.rmtree(self.journal(stage, key), ignore_errors=True)

    def read_part(self, stage: StageKey, key: str, columns: list[str] | None = None) -> pa.Table:
        """Read the table that was committed, or some of its columns.

        Raises:
            RunStoppedError: the file is damaged; other truncated parts are named too.
        """
        path = self.part(stage, key)
        try:
            return read_parquet(path, columns)
        except RunStoppedError as error:
            parts = self._stage("parts", stage).rglob("*.parquet")
            truncated = sorted(
                str(other) for other in parts if other != path and _is_truncated(other)
            )
            if not truncated:
                raise
            raise RunStoppedError(f"{error} Also damaged: {', '.join(truncated)}.") from error

    def part_footer(self, stage: StageKey, key: str, name: str) -> bytes | None:
        """Return a value that was committed as metadata of a part's table; None if it was not.

        Raises:
            RunStoppedError: the file is damaged.
        """
        path = self.part(stage, key)
        with explained_damage(path):
            values: dict[bytes, bytes] = pq.read_metadata(path).metadata or {}
        return values.get(name.encode())

    def record_failure(self, stage: StageKey, key: str, record: dict[str, Any]) -> None:
        """Record why a video failed."""
        text = json.dumps(record, indent=1, ensure_ascii=False)
        write_text(self.failure(stage, key), text)

    def read_failure(self, stage: StageKey, key: str) -> Failure:
        """Read the record of a failure, as far as it can be read."""
        try:
            record = json.loads(self.failure(stage, key).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            record = None
        if not isinstance(record, dict):
            return Failure()
        values = {name: record.get(name) for name in _TYPES}
        return Failure(**{k: value for k, value in values.items() if isinstance(value, _TYPES[k])})

    def sweep(self) -> None:
        """Remove temporary files of writers that were killed long ago."""
        oldest = time.time() - _ABANDONED_AFTER
        for kind in ("parts", "journal", "failures", "manifest"):
            with suppress(FileNotFoundError):  # other runs remove files too
                for path in (self.root / kind).rglob(f"{TEMPORARY}*"):
                    with suppress(FileNotFoundError):
                        if path.stat().st_mtime < oldest:
                            path.unlink()


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file of the run folder, or some of its columns.

    Raises:
        RunStoppedError: the file is damaged.
    """
    with explained_damage(path), pq.ParquetFile(path) as file:
        return file.read(columns)


@contextmanager
def explained_damage(path: Path) -> Iterator[None]:
    """Convert errors of a block that reads a Parquet file of the run folder.

    Raises:
        RunStoppedError: the file cannot be read, or is damaged. Files are written atomically, so
            a disk or a user has damaged it.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        if isinstance(error, OSError) and error.errno is not None:  # errors of Arrow have none
            why = error.strerror or os.strerror(error.errno)
            raise RunStoppedError(f"Cannot read {path}: {why}.") from error
        reason = first_line(error).rstrip(".")
        raise RunStoppedError(
            f"{path} is damaged ({reason}). Remove it, then run `action100m run` with the "
            "videos again: only what it held is computed again."
        ) from error


def _is_truncated(path: Path) -> bool:
    """Return whether a Parquet file lacks a valid footer; its rows are not checked."""
    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return True
    return False


def _keys(folder: Path, suffix: str) -> Iterator[str]:
    return (entry.name.removesuffix(suffix) for entry in _entries(folder, suffix))


def _entries(folder: Path, suffix: str) -> Iterator[os.DirEntry[str]]:
    for name in _subfolders(folder):
        with os.scandir(folder / name) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    yield entry


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())
