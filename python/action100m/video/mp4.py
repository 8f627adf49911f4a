"""Writes MP4 files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from action100m.video.clip import TargetError

TOO_LONG = (
    "One of its frames is shown for hours, longer than MP4 can represent. Cut the parts before and "
    "after that frame separately."
)


def longest(base: Fraction) -> float:
    """Seconds that a frame can be shown in a file, given the time base of what it is made from."""
    # FFmpeg counts ticks in 31 bits, and halves coarse ones until there are 10,000 a second.
    return 2e9 / max(20_000, base.denominator)


class Mp4:
    """An MP4 file that is being written."""

    def __init__(self, target: Path) -> None:
        """Open the file.

        Raises:
            TargetError: that cannot be done.
        """
        # A file of our own: FFmpeg's would not always tell that the disk is full.
        try:
            self._file = target.open("wb")
        except OSError as error:
            raise TargetError(error.errno, error.strerror, str(target)) from error
        try:
            self.container: OutputContainer = av.open(self._file, "w", format="mp4")
        except BaseException:
            self._file.close()
            raise

    def finish(self) -> None:
        """Write the index.

        Raises:
            OSError: the disk takes no more.
        """
        self.container.close()
        self._file.close()

    def abandon(self) -> None:
        """Leave it as it is."""
        self._file.close()
