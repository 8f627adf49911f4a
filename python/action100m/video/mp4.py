"""Write MP4 files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer

from action100m.video.clip import Preview, TargetError

TOO_LONG = (
    "One of its frames is shown for hours, longer than MP4 can represent. Cut the parts before and "
    "after that frame separately."
)


def longest(base: Fraction) -> float:
    """Return the longest duration of a frame in seconds, given the time base of its source."""
    # FFmpeg counts ticks in 31 bits, and halves coarse ticks until there are 10,000 per second.
    return 2e9 / max(20_000, base.denominator)


class Mp4:
    """An MP4 file that is being written."""

    def __init__(self, target: Path, preview: Preview | None = None) -> None:
        """Open the file.

        Args:
            target: the file.
            preview: the preview that it will be, if any.

        Raises:
            TargetError: the file cannot be opened for writing.
        """
        # We open the file ourselves, because FFmpeg does not always report that the disk is full.
        try:
            self._file = target.open("wb")
        except OSError as error:
            raise TargetError(error.errno, error.strerror, str(target)) from error
        try:
            # The index of a preview is moved to its start. A large file would take long to move.
            options = {"movflags": "faststart"} if preview else {}
            self.container: OutputContainer = av.open(
                self._file, "w", format="mp4", options=options
            )
        except BaseException:
            self._file.close()
            raise
        if preview:
            self.container.metadata["comment"] = preview.comment

    def finish(self) -> None:
        """Write the index and close the file.

        Raises:
            OSError: the file cannot be written, for example because the disk is full.
        """
        self.container.close()
        self._file.close()

    def abandon(self) -> None:
        """Close the file, leaving it incomplete."""
        self._file.close()
