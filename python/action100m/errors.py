"""What the public functions raise for what their caller can mend, in words for a person."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""The numbers of an OSError for which the disk is to blame that is written to."""


class ConfigError(ValueError):
    """A configuration that cannot be used."""


@contextmanager
def as_config_errors() -> Iterator[None]:
    """What is missing or refused is the fault of the configuration that asked for it."""
    try:
        yield
    except (ImportError, ValueError) as error:
        raise ConfigError(str(error)) from error


class DatasetError(ValueError):
    """Data that cannot be read: names the file and, where there is one, the row."""


class UsageError(ValueError):
    """The inputs cannot be used as they were given."""


class NothingToDoError(ValueError):
    """There is nothing to work on: no video, or no segment with an action."""


class RunStoppedError(Exception):
    """The run cannot go on: a full disk, a folder that went away. What is done is kept."""


class VideoError(Exception):
    """A file that cannot be used.

    Attributes:
        transient: another attempt may succeed (a decoder killed, a device busy).
    """

    def __init__(self, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.transient = transient

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (str(self), self.transient))


def _rebuild(reason: str, transient: bool) -> VideoError:
    return VideoError(reason, transient=transient)
