"""Uids as the names of media files, and back."""

from __future__ import annotations

import quopri
from pathlib import PurePosixPath

from action100m.dataset.filenames import file_name

_PER_FOLDER = 1000
_ONE_FOLDER = 10_000  # samples; the Hub takes no more files in one folder


def media_path(uid: str, number: int, total: int) -> str:
    """Where a sample's video lies within the dataset's folder, as FiftyOne lays them out.

    Args:
        uid: of the video; what a file name may not hold is written as quoted-printable: `=` and two
            hexadecimal digits a byte, because FiftyOne rewrites `%` as it exports.
        number: of the sample, from 0.
        total: how many samples there are.

    Raises:
        ValueError: no file can have that name.
    """
    folder = "data" if total <= _ONE_FOLDER else f"data/data_{number // _PER_FOLDER}"
    return f"{folder}/{file_name(uid, '.mp4')}"


def uid_of_media(filepath: str) -> str:
    """The uid that `media_path` made a path of."""
    stem = PurePosixPath(filepath.replace("\\", "/")).stem
    return quopri.decodestring(stem.encode(errors="replace")).decode(errors="replace")
