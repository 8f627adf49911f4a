"""Read a file that lies beside a video."""

from __future__ import annotations

from pathlib import Path

MAX_BYTES = 64 * 2**20


def read_content(path: Path) -> bytes:
    """Return the content of a sidecar.

    Raises:
        ValueError: it is not a regular file, or is too large.
        OSError: it does not exist, or cannot be read.
    """
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    return content
