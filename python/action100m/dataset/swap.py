"""Replace a whole folder: its name leads to the old dataset until it leads to the new one.

A reader of the old dataset keeps the files that it has open; the others are gone.
"""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from action100m.files import sync
from action100m.locks import locked

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE on Linux


@contextmanager
def replaced(folder: Path, own: re.Pattern[str]) -> Iterator[Path]:
    """Yield an empty folder to fill, and put it in place of `folder` if no error is raised.

    The two exchange names in one step. If the file system cannot do that (NFS), the old folder is
    first renamed to a hidden neighbour: a reader may find nothing for a moment, and if the process
    is killed in between, the next call first renames it back. Exports to one folder take turns by
    a lock on a hidden file beside it, so any hidden neighbour of such a name is left from a crash.

    Raises:
        FileExistsError: `folder` is not a folder, or has a file whose name `own` does not match.
    """
    folder = folder.resolve()  # a link to another disk stays a link
    refuse_foreign(folder, own)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    fresh, old = (folder.with_name(f".{folder.name}.{token}.{role}") for role in ("new", "old"))
    with locked(folder.with_name(f".{folder.name}.lock")) as alone:
        if alone:
            _heal(folder)
        try:
            fresh.mkdir()
            yield fresh
            sync(fresh)
            if not _exchange(fresh, folder):
                _rename(fresh, folder, old)
            sync(folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; return False if that is impossible."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # on Linux
    paths = os.fsencode(one), os.fsencode(other)
    return renameat2 is not None and not renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE)


def _rename(fresh: Path, folder: Path, old: Path) -> None:
    """Put `fresh` in the place of `folder`, which becomes `old` if it exists."""
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise


def _heal(folder: Path) -> None:
    """Clean up after a killed export. Only the holder of the lock may call this."""
    left = re.compile(re.escape(f".{folder.name}.") + r"[0-9a-f]{8}\.(new|old)")
    for path in [path for path in folder.parent.iterdir() if left.fullmatch(path.name)]:
        if path.suffix == ".old" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def refuse_foreign(folder: Path, own: re.Pattern[str]) -> None:
    """Check that a folder may be replaced.

    Raises:
        FileExistsError: it is not a folder, or has a file whose name `own` does not match.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise FileExistsError(f"{folder} is a file; the dataset needs a folder.") from None
    for name in names:
        # NFS keeps a deleted file that is still open under such a name.
        if not own.fullmatch(name) and not name.startswith(".nfs"):
            raise FileExistsError(
                f"{folder} holds {name}, which no export wrote and which replacing the folder "
                "would delete; choose another folder or move that file away."
            )
