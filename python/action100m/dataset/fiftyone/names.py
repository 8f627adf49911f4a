"""Convert uids to the names of media files, and back."""

from __future__ import annotations

import quopri
from pathlib import PurePosixPath

from action100m.dataset.filenames import file_name

_PER_FOLDER = 1000
_ONE_FOLDER = 10_000  # samples; the Hub allows no more files in one folder


def media_path(uid: str, number: int, total: int) -> str:
    """Return the path of a sample's video in the dataset's folder, in FiftyOne's layout.

    Args:
        uid: uid of the video; characters that file names cannot contain are quoted-printable: `=`
            and two hexadecimal digits per byte, because FiftyOne rewrites `%` on export.
        number: number of the sample, from 0.
        total: number of samples.

    Raises:
        ValueError: no file can have that name.
    """
    folder = "data" if total <= _ONE_FOLDER else f"data/data_{number // _PER_FOLDER}"
    return f"{folder}/{file_name(uid, '.mp4')}"


def uid_of_media(filepath: str) -> str:
    """Return the uid of a path from `media_path`."""
    stem = PurePosixPath(filepath.replace("\\", "/")).stem
    return quopri.decodestring(stem.encode(errors="replace")).decode(errors="replace")
