"""Files as users name them, and put in place whole: readers see the old one or the new one."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin."""


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `target`, sync it, and rename it to `target`.

    Whatever `write` raises, `target` keeps what it held and the temporary file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(target)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(target)) from error  # what is known
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """`write_atomically` for text. Lone surrogates of odd file names become backslash escapes."""
    write_atomically(target, lambda path: path.write_text(text, "utf-8", errors="backslashreplace"))


def matches(given: str) -> list[Path]:
    """The file or folder of that name, else what it matches as a glob, sorted; [] for nothing."""
    path = Path(given)
    if path.exists():
        return [path]
    found = glob.glob(given, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    return sorted(map(Path, found))


def walk(folder: Path, leave_out: Callable[[Path], bool] = lambda at: False) -> Iterator[Path]:
    """Every file below a folder, in any order; links are followed, what is hidden is left out.

    Args:
        folder: where to begin.
        leave_out: says of a resolved folder within it whether not to walk into that.

    Raises:
        OSError: a folder cannot be read.
    """
    seen: set[Path] = set()  # links may form loops
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here = Path(root)
        seen.add(here.resolve())
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (at := (here / name).resolve()) not in seen
            and not leave_out(at)
        ]
        yield from (here / name for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise error


def absolute(path: str | Path) -> Path:
    """The path from the root, without "." and ".."; links stay links."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow links)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
