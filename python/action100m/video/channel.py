"""Exchange messages and pixels between a run and its decoder process over a socket."""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from action100m.video.clip import Clip
from action100m.video.frames import FrameBatch, FrameSpec

_LENGTH = struct.Struct("=Q")
_GRACE = 5.0  # seconds to answer in after a timeout


@dataclass(frozen=True)
class Open:
    """Request to decode a file; the child answers with a `VideoInfo` or a `VideoError`."""

    path: str
    spec: FrameSpec
    threads: int


@dataclass(frozen=True)
class Cut:
    """Request for clips of a file; the child answers with a list of `Outcome`, or an error."""

    path: str
    clips: list[Clip]
    copy: bool

    def __post_init__(self) -> None:
        if self.copy and any(clip.preview for clip in self.clips):
            raise ValueError("A preview cannot be a copy, because its pictures are scaled.")


@dataclass(frozen=True)
class Seek:
    """Request for the frames at given times; the child answers with a `Batch` or a `VideoError`."""

    path: str
    spec: FrameSpec
    times: list[float]

    def __post_init__(self) -> None:
        times = np.asarray(self.times, float)
        if not (times.size and np.isfinite(times).all() and (np.diff(times) >= 0).all()):
            raise ValueError(f"Times must be finite seconds in order, but are {self.times}.")


Request = Open | Cut | Seek


@dataclass(frozen=True, eq=False)
class Batch:
    """Header of a `FrameBatch`, whose pixels follow as raw bytes of this shape."""

    index: NDArray[np.int64]
    times: NDArray[np.float64]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Heartbeat:
    """Signals that packets are being decoded although no batch is complete yet."""


class Channel:
    """Sends and receives pickled objects and raw arrays over a connected stream socket.

    Use it only with a process that we started ourselves, because pickles are trusted. Receiving
    raises TimeoutError after the socket's timeout, and EOFError if the peer has closed its end.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def send_batch(self, batch: FrameBatch) -> None:
        self.send(Batch(batch.index, batch.times, batch.pixels.shape))
        self.send_pixels(batch.pixels)

    def send_pixels(self, pixels: NDArray[np.uint8]) -> None:
        self._socket.sendall(pixels.data.cast("B"))

    def receive(self) -> object:
        (length,) = _LENGTH.unpack(self._receive_exactly(bytearray(_LENGTH.size)))
        return pickle.loads(self._receive_exactly(bytearray(length)))

    def receive_pixels(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        pixels = np.empty(shape, np.uint8)
        self._receive_exactly(pixels.data.cast("B"))
        return pixels

    def close(self) -> None:
        self._socket.close()

    def _receive_exactly(self, buffer: bytearray | memoryview) -> bytearray | memoryview:
        rest = memoryview(buffer)
        while rest:
            count = self._receive_into(rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return buffer

    def _receive_into(self, rest: memoryview) -> int:
        patience = self._socket.gettimeout()
        try:
            return self._socket.recv_into(rest)
        except TimeoutError:
            assert patience is not None
            # Both processes may have been suspended meanwhile: let the peer answer now.
            self._socket.settimeout(min(patience, _GRACE))
            count = self._socket.recv_into(rest)
            self._socket.settimeout(patience)
            return count
