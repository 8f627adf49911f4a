"""Read the indexes between the fragments of an MP4 file: `sidx` boxes, as used by DASH."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

_HEAD = 16
_MOST = 48 + 12 * 0xFFFF  # bytes of the largest index


def promised_end(path: Path) -> float | None:
    """Return the second of the timeline at which an incomplete fragmented file should end.

    A missing fragment leaves no trace but its entry in an index, which gives its length in bytes.
    Durations elsewhere in the file are ignored, because they may belong to another file.

    Args:
        path: an MP4 file.

    Returns:
        Seconds, or None if no fragment is missing according to the indexes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        promises = [
            (end + length, until)
            for kind, start, end in _boxes(file, size)
            if kind == b"sidx"
            for length, until in _promise(_read(file, start, end))
        ]
    if not any(end > size for end, _ in promises):
        return None
    return max(until for _, until in promises)


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start of the content and end of each top-level box until one is malformed."""
    at = 0
    while at + _HEAD <= size:
        length, kind, long = struct.unpack(">I4sQ", _read(file, at, at + _HEAD))
        start = at + 8
        if length == 1:
            length, start = long, at + _HEAD
        if length < start - at:
            return  # the last box, which extends to the end of the file, or not a box
        yield kind, start, at + length
        at += length


def _promise(content: bytes) -> Iterator[tuple[int, float]]:
    """Yield the bytes from an index's end to its last fragment's end, and that end in seconds."""
    form = ">4xIQQ2xH" if content[:1] > b"\0" else ">4xIII2xH"  # after 4 bytes common to both
    start = 4 + struct.calcsize(form)
    if len(content) < start:
        return
    scale, earliest, skipped, count = struct.unpack_from(form, content, 4)
    if not scale or len(content) < start + 12 * count:
        return
    entries = np.frombuffer(content, ">u4", 3 * count, start)
    lengths, durations = entries[0::3] & 0x7FFFFFFF, entries[1::3]
    yield skipped + int(lengths.sum()), (earliest + int(durations.sum())) / scale


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(min(end - start, _MOST))
