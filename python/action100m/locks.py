"""Locks between processes, on files; one that dies lets go of its own.

On a file system that has no locks to give everyone gets what they ask for.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock on a file, waiting for it; False where the file system has none to give."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim what a file stands for; False, at once, where another has it. The file goes at the end.

    Right after that two can have the claim: what it is for must not be harmed by being done twice.
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
