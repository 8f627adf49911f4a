"""Uids as the names of media files, and back."""

from __future__ import annotations

import quopri
from pathlib import PurePosixPath

_ALWAYS_SAFE = "-_. !#$&'()+,;@[]^`{}~"
_LONGEST = 255  # bytes that file systems take
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
    name = "".join(c if _is_safe(c) else _quoted(c) for c in uid) + ".mp4"
    if name.startswith("."):
        name = _quoted(".") + name[1:]  # it would be hidden, or a way up
    if not uid or len(name.encode()) > _LONGEST:
        raise ValueError("No file can be named by its uid.")
    folder = "data" if total <= _ONE_FOLDER else f"data/data_{number // _PER_FOLDER}"
    return f"{folder}/{name}"


def uid_of_media(filepath: str) -> str:
    """The uid that `media_path` made a path of."""
    stem = PurePosixPath(filepath.replace("\\", "/")).stem
    return quopri.decodestring(stem.encode(errors="replace")).decode(errors="replace")


def _is_safe(character: str) -> bool:
    return character.isalnum() or character in _ALWAYS_SAFE


def _quoted(character: str) -> str:
    return "".join(f"={byte:02X}" for byte in character.encode())
