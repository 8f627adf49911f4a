"""The run folder: where everything stands, and how it gets there whole.

A file that exists is complete: it was written under a temporary name in the same folder, synced,
and renamed. Nothing else marks work as done, so a resume needs listings only.
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
from action100m.files import TEMPORARY, write_atomically, write_text
from action100m.locks import claimed

_ABANDONED_AFTER = 24 * 3600.0  # seconds; no write of ours takes a fraction of it


@dataclass(frozen=True)
class StageKey:
    """A stage under one configuration.

    Attributes:
        name: "segment", "caption" or "aggregate".
        fingerprint: of all that decides what its parts hold.
    """

    name: str
    fingerprint: str

    @property
    def reads_files(self) -> bool:
        """Whether it needs the video files: stage 3 has what it needs in the parts."""
        return self.name != "aggregate"


class RunFolder:
    """Paths, listings and atomic writes of one run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def settings_file(self) -> Path:
        return self.root / "run.toml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def part(self, stage: StageKey, key: str) -> Path:
        """Where a stage's result for a video stands once it is done."""
        return self._stage("parts", stage) / key[:2] / f"{key}.parquet"

    def failure(self, stage: StageKey, key: str) -> Path:
        """Where the reason stands why a stage could not do a video."""
        return self._stage("failures", stage) / key[:2] / f"{key}.json"

    def journal(self, stage: StageKey, key: str) -> Path:
        """Where a stage keeps what it has of an unfinished video; gone once the part stands."""
        return self._stage("journal", stage) / key[:2] / key

    def claim(self, stage: StageKey, key: str) -> AbstractContextManager[bool]:
        """Take a video in hand; False where another run, here or on another machine, has it."""
        return claimed(self._stage("claims", stage) / key[:2] / key)

    def _stage(self, kind: str, stage: StageKey) -> Path:
        return self.root / kind / stage.name / stage.fingerprint

    def done_keys(self, stage: StageKey) -> set[str]:
        """Keys of the videos whose part stands."""
        return set(_keys(self._stage("parts", stage), ".parquet"))

    def part_states(self, stage: StageKey) -> dict[str, tuple[int, int]]:
        """By key, size and modification time of every part that stands."""
        entries = _entries(self._stage("parts", stage), ".parquet")
        found = ((entry.name.removesuffix(".parquet"), entry.stat()) for entry in entries)
        return {key: (state.st_size, state.st_mtime_ns) for key, state in found}

    def done_keys_elsewhere(self, stage: StageKey) -> set[str]:
        """Keys of the videos with a part under another configuration."""
        return {key for other in self.others(stage) for key in self.done_keys(other)}

    def others(self, stage: StageKey) -> list[StageKey]:
        """The same stage under the other configurations that this folder has seen."""
        kinds = ("parts", "journal")
        names = {name for kind in kinds for name in _subfolders(self.root / kind / stage.name)}
        return [StageKey(stage.name, name) for name in sorted(names - {stage.fingerprint})]

    def failed_keys(self, stage: StageKey) -> set[str]:
        """Keys of the videos with a recorded failure."""
        return set(_keys(self._stage("failures", stage), ".json"))

    def commit_part(self, stage: StageKey, key: str, table: pa.Table) -> None:
        """Make a part stand. Committing twice is harmless."""
        write_atomically(self.part(stage, key), lambda path: pq.write_table(table, path))
        self.failure(stage, key).unlink(missing_ok=True)
        shutil.rmtree(self.journal(stage, key), ignore_errors=True)

    def read_part(self, stage: StageKey, key: str, columns: list[str] | None = None) -> pa.Table:
        """The table that was committed, or some of its columns.

        Raises:
            RunStoppedError: the file is damaged; torn ones beside it are named too.
        """
        path = self.part(stage, key)
        try:
            return read_parquet(path, columns)
        except RunStoppedError as error:
            parts = self._stage("parts", stage).rglob("*.parquet")
            torn = sorted(str(other) for other in parts if other != path and _is_torn(other))
            if not torn:
                raise
            raise RunStoppedError(f"{error} So are: {', '.join(torn)}.") from error

    def part_footer(self, stage: StageKey, key: str, name: str) -> bytes:
        """A value that was committed with a part, as metadata of its table.

        Raises:
            RunStoppedError: the file is damaged.
        """
        path = self.part(stage, key)
        with damage_told(path):
            values: dict[bytes, bytes] = pq.read_metadata(path).metadata
            if name.encode() not in values:
                raise pa.ArrowInvalid(f"it has no {name}")
            return values[name.encode()]

    def record_failure(self, stage: StageKey, key: str, record: dict[str, Any]) -> None:
        """Keep why a video failed."""
        text = json.dumps(record, indent=1, ensure_ascii=False)
        write_text(self.failure(stage, key), text)

    def read_failure(self, stage: StageKey, key: str) -> dict[str, Any]:
        """The record of a failure; empty if there is none that can be read."""
        try:
            record = json.loads(self.failure(stage, key).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def sweep(self) -> None:
        """Remove what writers killed long ago left behind."""
        oldest = time.time() - _ABANDONED_AFTER
        for kind in ("parts", "journal", "failures", "manifest"):
            with suppress(FileNotFoundError):  # other runs remove what they are done with
                for path in (self.root / kind).rglob(f"{TEMPORARY}*"):
                    with suppress(FileNotFoundError):
                        if path.stat().st_mtime < oldest:
                            path.unlink()


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A file of the run folder, or some of its columns.

    Raises:
        RunStoppedError: it is damaged.
    """
    with damage_told(path), pq.ParquetFile(path) as file:
        return file.read(columns)


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """A block that reads a Parquet file of the run folder.

    Raises:
        RunStoppedError: it cannot be read, or is damaged. We write files whole, so a disk or a
            hand did it.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        if isinstance(error, OSError) and error.errno is not None:  # Arrow's own have none
            why = error.strerror or os.strerror(error.errno)
            raise RunStoppedError(f"Cannot read {path}: {why}.") from error
        reason = str(error).splitlines()[0]
        raise RunStoppedError(
            f"{path} is damaged ({reason}). Remove it and run the same command again, naming the "
            "videos: only what it held is done anew."
        ) from error


def _is_torn(path: Path) -> bool:
    """Whether a Parquet file has no end; its rows are not looked at."""
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
