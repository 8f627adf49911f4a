"""Pack clips into tar files that the webdataset library reads: KEY.mp4 beside KEY.json."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from action100m.files import write_atomically, write_text

SHARD_BYTES = 10**9
_SHARDS = "clips-[0-9][0-9][0-9][0-9][0-9][0-9].tar"
_RECORD = "shards.json"  # size in bytes of every written shard, by name

Row = dict[str, Any]


class ShardWriter:
    """Packs clips in the order in which they arrive, and deletes packed clips from their folder.

    A clip is deleted only after its shard is complete: no clip is lost if the process is killed.
    The same clips give the same shards, byte for byte.
    """

    def __init__(self, folder: Path, clips: Path, limit: int = SHARD_BYTES) -> None:
        """Resume where an earlier writer stopped.

        Args:
            folder: the folder of the shards.
            clips: the folder of the clips; a clip's path in it, without its suffix, is its key.
            limit: maximum bytes of clips per shard; only a single clip may exceed it.

        Raises:
            FileExistsError: a shard of an earlier writer is missing or has another size.
        """
        self._folder, self._clips, self._limit = folder, clips, limit
        self._waiting: list[tuple[str, Row]] = []
        self._bytes = 0
        existing = shards(folder)
        self._sizes = _checked(folder, existing)
        self._number = int(existing[-1].stem[-6:]) + 1 if existing else 0
        if existing:
            for key, _ in read_shard(existing[-1]):  # the writer may have been killed before this
                self._path(key).unlink(missing_ok=True)

    def add(self, clip: Path, row: Row) -> None:
        """Pack a clip with its description, unless a shard already contains it.

        Raises:
            OSError: a shard cannot be written.
        """
        with suppress(FileNotFoundError):
            size = clip.stat().st_size
            if self._waiting and self._bytes + size > self._limit:
                self.flush()
            key = clip.relative_to(self._clips).with_suffix("").as_posix()
            self._waiting.append((key, row))
            self._bytes += size

    def flush(self) -> None:
        """Write the current shard."""
        if not self._waiting:
            return
        shard = self._folder / f"clips-{self._number:06}.tar"
        write_atomically(shard, self._write)
        self._sizes[shard.name] = shard.stat().st_size
        _note(self._folder, self._sizes)
        for key, _ in self._waiting:
            self._path(key).unlink()
        self._waiting, self._bytes, self._number = [], 0, self._number + 1

    def _path(self, key: str) -> Path:
        return self._clips / f"{key}.mp4"

    def _write(self, path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for key, row in self._waiting:
                text = json.dumps(row, ensure_ascii=False).encode()
                described = tarfile.TarInfo(f"{key}.json")
                described.size = len(text)
                tar.addfile(described, io.BytesIO(text))
                shown = tarfile.TarInfo(f"{key}.mp4")
                shown.size = self._path(key).stat().st_size
                with self._path(key).open("rb") as file:
                    tar.addfile(shown, file)


def shards(folder: Path) -> list[Path]:
    """Return the existing shards, in order."""
    return sorted(folder.glob(_SHARDS))


def _checked(folder: Path, existing: list[Path]) -> dict[str, int]:
    """Check that all recorded shards exist; return the sizes of all by name, and record them.

    Raises:
        FileExistsError: a shard is missing or has another size.
    """
    record = folder / _RECORD
    noted: dict[str, int] = json.loads(record.read_text("utf-8")) if record.exists() else {}
    sizes = {shard.name: shard.stat().st_size for shard in existing}
    if wrong := [name for name, size in noted.items() if sizes.get(name) != size]:
        raise FileExistsError(
            f"{folder} cannot be continued: {wrong[0]} is missing or incomplete, and so are clips "
            "that would be listed. Restore it, or choose another folder with --out."
        )
    if sizes != noted:  # a writer was killed after writing a shard
        _note(folder, sizes)
    return sizes


def _note(folder: Path, sizes: dict[str, int]) -> None:
    write_text(folder / _RECORD, json.dumps(sizes, indent=1))


def read_shard(shard: Path) -> Iterator[tuple[str, Row]]:
    """Yield the keys and descriptions of a shard's clips, in order."""
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None and member.name.endswith(".json"):
                yield member.name.removesuffix(".json"), json.loads(file.read())
