"""Find files as users name them, and write files atomically: readers see the old or the new."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from action100m.errors import UsageError

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files."""

RUN_SETTINGS = "run.toml"
"""The file that makes a folder a run folder."""

_AT_ONCE = 16  # a network file system answers each question late, but many at once
_PER_THREAD = 64  # at a time

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `target`, sync it, and rename it to `target`.

    If `write` raises, `target` keeps its content and the temporary file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(target)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(target)) from error  # the caller's name
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write text atomically. Lone surrogates, from odd file names, become backslash escapes."""
    write_atomically(target, lambda path: path.write_text(text, "utf-8", errors="backslashreplace"))


def ask_for_each(question: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """Call a function that waits for the file system once for each item, in several threads.

    Returns:
        The answers, in the order of the items.
    """

    def ask(some: Sequence[Item]) -> list[Answer]:
        return [question(item) for item in some]

    length = max(1, min(_PER_THREAD, -(-len(items) // _AT_ONCE)))
    pieces = [items[k : k + length] for k in range(0, len(items), length)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [answer for some in pool.map(ask, pieces) for answer in some]


def matches(given: str) -> list[Path]:
    """Return the file or folder of that name, else its sorted matches as a glob; [] if none."""
    path = Path(given)
    if given and path.exists():  # Path("") is the working directory
        return [path]
    found = glob.glob(given, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    return sorted(map(Path, found))


def is_run_folder(path: Path) -> bool:
    """Return whether a path is a run folder."""
    return (path / RUN_SETTINGS).is_file()


def walk(folder: Path, leave_out: Callable[[Path], bool] = lambda at: False) -> Iterator[Path]:
    """Yield every file below a folder, in any order; follow links, and skip hidden names.

    Args:
        folder: the folder to walk.
        leave_out: called with each resolved subfolder; returns True to skip it.

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
    """Return the absolute path, without "." and "..".

    Links are not resolved, except where a ".." follows one: it leads to the parent of the target.
    """
    given = Path(path).absolute()
    collapsed = Path(os.path.abspath(given))  # noqa: PTH100 (resolve() would follow links)
    if ".." not in given.parts:
        return collapsed
    name = "" if given.name == ".." else given.name  # stays, even if it is a link
    folder = given.parent if name else given
    real = os.path.realpath(folder)
    is_same = real == os.path.realpath(collapsed.parent if name else collapsed)
    return collapsed if is_same else Path(real, name)


def require_utf8(path: Path) -> None:
    """Check that a path can be written to TOML, and be opened by Arrow.

    Raises:
        UsageError: it is not valid UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"The name {path} is not valid UTF-8: rename it.") from error


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
