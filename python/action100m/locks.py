"""File locks between processes; a process that dies releases its locks.

On a file system without locks, callers continue without one.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Wait for the lock on a file and hold it; yield False if the file system has no locks.

    Args:
        path: the file, which is created.
        on_wait: called if another process has the lock.
    """
    with path.open("ab") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim a file without waiting; yield False if another process has it. Delete it at the end.

    Just after the deletion two processes can hold the claim: the work must be safe to do twice.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        except OSError as error:
            mine = not isinstance(error, BlockingIOError)
        try:
            yield mine
        finally:
            if mine:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # a forked process may have the file open too
                    fcntl.flock(file, fcntl.LOCK_UN)
