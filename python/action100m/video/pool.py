"""A few decoders shared by many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

from action100m.video.decoder import Decoder

_POLL = 0.2  # seconds between checks of whether to keep waiting


class DecoderPool:
    """Lends each decoder to one borrower at a time; a context manager that closes them on exit."""

    def __init__(self, decoders: list[Decoder]) -> None:
        """Create a pool, which owns `decoders` from now on."""
        self._decoders = decoders
        self._idle: LifoQueue[Decoder] = LifoQueue()
        for decoder in decoders:
            self._idle.put(decoder)

    @contextmanager
    def borrow(self, check: Callable[[], None]) -> Iterator[Decoder]:
        """Wait for a decoder and hold it for the block; `check` may raise to stop waiting."""
        decoder = self._wait(check)
        try:
            yield decoder
        finally:
            self._idle.put(decoder)

    def _wait(self, check: Callable[[], None]) -> Decoder:
        while True:
            try:
                return self._idle.get(timeout=_POLL)
            except Empty:
                check()

    def interrupt(self) -> None:
        """End the decoders' current work; their borrowers get a VideoError."""
        for decoder in self._decoders:
            decoder.interrupt()

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._decoders:
            decoder.close()
