"""Capture FFmpeg's error messages before they reach the terminal."""

from __future__ import annotations

import re

import av.logging

# Messages that FFmpeg reports as damage when an allocation fails or no thread can be started.
_OUT_OF_MEMORY = re.compile(
    "out of memory|(can|could) ?not allocate|get_buffer\\(\\) failed|cannot add index entry"
    "|resource temporarily unavailable",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


class FFmpegLog:
    """Captures the errors that FFmpeg reports in all threads of the process.

    FFmpeg has one log for the whole process: use only one instance at a time.
    """

    def __enter__(self) -> FFmpegLog:
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        self._capture = av.logging.Capture(local=False)
        self._records = self._capture.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        # PyAV's type hints allow only one exception class.
        self._capture.__exit__(None, None, None)
        av.logging.set_level(None)

    def take(self) -> list[str]:
        """Return the messages since the last call, without memory addresses.

        Raises:
            MemoryError: one of them says that memory ran out.
        """
        # Decoder threads append concurrently: remove exactly what was read.
        count = len(self._records)
        records = self._records[:count]
        del self._records[:count]
        messages = [clean(f"{name}: {message}") for _, name, message in records]
        if any(_OUT_OF_MEMORY.search(message) for message in messages):
            raise MemoryError
        return messages


def clean(message: str) -> str:
    """Return a message as one line of at most 300 characters, without memory addresses."""
    return " ".join(_ADDRESS.sub("", message).split())[:300]
