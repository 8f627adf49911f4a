"""Writes MP4 files."""

from __future__ import annotations

from pathlib import Path

import av
from av.container import OutputContainer

from action100m.video.clip import TargetError


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
