"""Store the rows of an unfinished video, so that an interruption loses only minutes of work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action100m.files import write_atomically
from action100m.segmentation.windows import WindowedEncoder
from action100m.video import FrameBatch

ROWS_PER_PIECE = 512
"""Over a minute of video at 7.5 sampled frames per second."""

Rows = NDArray[np.float32]

_log = logging.getLogger(__name__)


class Pieces:
    """A folder of files `<number of the first row>.npy`, each written atomically."""

    def __init__(self, folder: Path, dimension: int) -> None:
        """Create an instance without accessing the folder.

        Args:
            folder: a folder used only by this process, for one video, one version of its file and
                one encoder identity.
            dimension: d, the length of a row.
        """
        self._folder = folder
        self._dimension = dimension
        self._written = 0  # rows on the disk
        self._waiting: list[Rows] = []

    def read(self) -> Rows:
        """Return the (m, d) rows stored so far; `append` continues after them."""
        known = [np.empty((0, self._dimension), np.float32)]
        self._written, self._waiting = 0, []
        while (piece := self._read_piece(self._path(self._written))) is not None:
            known.append(piece)
            self._written += len(piece)
        return np.concatenate(known)

    def append(self, rows: Rows) -> None:
        """Add the next (b, d) rows; write a piece whenever there are enough.

        Raises:
            OSError: the folder cannot be written.
        """
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) < ROWS_PER_PIECE:
            return
        piece = np.concatenate(self._waiting)
        write_atomically(self._path(self._written), lambda path: _save(path, piece))
        self._written += len(piece)
        self._waiting = []

    def _path(self, row: int) -> Path:
        return self._folder / f"{row:09}.npy"

    def _read_piece(self, path: Path) -> Rows | None:
        try:
            piece: Rows = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError):
            piece = np.empty(0, np.float32)
        if piece.dtype != np.float32 or piece.shape[1:] != (self._dimension,) or not len(piece):
            _log.warning("%s is damaged: its rows and those after it are computed again.", path)
            return None
        return piece


def encode_in_pieces(
    encoder: WindowedEncoder, frames: Iterable[FrameBatch], pieces: Pieces
) -> Iterator[Rows]:
    """Yield the rows of `encoder.encode(frames)`, bit for bit, without computing stored rows again.

    Args:
        encoder: the encoder that produced the stored pieces.
        frames: the whole video.
        pieces: stores the new rows; the run removes the folder once the part is written.

    Raises:
        ValueError: the video has fewer frames than stored rows, which are thus of another video.
        OSError: the pieces cannot be written.
    """
    known = pieces.read()
    if len(known):
        yield known
    for rows in encoder.encode(frames, first_row=len(known)):
        pieces.append(rows)
        yield rows


def _save(path: Path, piece: Rows) -> None:
    with path.open("wb") as file:
        np.save(file, piece)
