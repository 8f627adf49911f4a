"""Exceptions that the public functions raise for errors that the caller can fix."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Values of `OSError.errno` that are caused by the disk being written to."""

_SHORTAGES = (errno.EAGAIN, errno.ENOMEM)


class ConfigError(ValueError):
    """A configuration that cannot be used."""


@contextmanager
def as_config_errors() -> Iterator[None]:
    """Raise ImportError and ValueError as ConfigError: the configuration caused the error."""
    try:
        yield
    except (ImportError, ValueError) as error:
        raise ConfigError(str(error)) from error


class DatasetError(ValueError):
    """Data that cannot be read; the message names the file and, if there is one, the row."""


class UsageError(ValueError):
    """The inputs cannot be used as given."""


class NothingToDoError(ValueError):
    """The inputs contain nothing to work on: no video, or no segment with an action."""


class RunStoppedError(Exception):
    """The run cannot continue: the disk is full or a folder is gone. Finished work is kept."""


def is_shortage(error: BaseException) -> bool:
    """Return whether an error says that no other process or thread can be started."""
    if isinstance(error, RuntimeError):
        return str(error) == "can't start new thread"
    return isinstance(error, OSError) and error.errno in _SHORTAGES


@contextmanager
def as_run_stopped() -> Iterator[None]:
    """Raise the errors of `is_shortage` as RunStoppedError: no video causes them."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise RunStoppedError(
            "No other process or thread can be started: their number, or the memory, is limited. "
            "Finished work is kept: raise the limit (`ulimit -u`, or that of the job) or use fewer "
            "--workers, then run the same command again."
        ) from error


class VideoError(Exception):
    """A video file that cannot be used.

    Attributes:
        transient: True if another attempt may succeed (the decoder was killed, a device was busy).
    """

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (str(self), self.transient))


def _rebuild(reason: str, transient: bool) -> VideoError:
    return VideoError(reason, transient=transient)
