"""The decoder process, which can crash or be killed at any time without harm to the run."""

from __future__ import annotations

import os
import resource
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import av

from action100m.errors import DISK_ERRORS, VideoError
from action100m.video.channel import Channel, Heartbeat, Open, Request, Seek
from action100m.video.clip import TargetError
from action100m.video.dali import DaliStream, Device
from action100m.video.encode import encode_clips
from action100m.video.frames import FrameStream
from action100m.video.log import clean
from action100m.video.pyav import PyAVStream
from action100m.video.remux import copy_clips
from action100m.video.seek import frames_at

if TYPE_CHECKING:
    from action100m.config import Backend

_HEARTBEAT_SECONDS = 0.5


def main(fileno: int, backend: Backend, memory: int) -> None:
    """Serve the parent's requests until it closes its end of the socket.

    Args:
        fileno: file descriptor of our end of the socket pair.
        backend: the decoder to use.
        memory: bytes of address space that decoding may use beyond what the process already holds.
    """
    connection = socket.socket(fileno=fileno)
    threading.Thread(target=_die_with_parent, args=(fileno,), daemon=True).start()
    _limit(resource.RLIMIT_CORE, 0)
    # CUDA reserves address space for all physical memory; macOS refuses to set the limit.
    if backend != "dali-gpu" and sys.platform != "darwin":
        _limit(resource.RLIMIT_AS, _address_space() + memory)
    channel = BeatingChannel(connection)
    try:
        while isinstance(request := channel.receive(), Request):
            _serve(channel, request, backend, memory)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass


class BeatingChannel(Channel):
    """A channel that sends a heartbeat from `beat` if nothing else was sent recently."""

    _last = 0.0

    def send(self, message: object) -> None:
        super().send(message)
        self._last = time.monotonic()

    def beat(self) -> None:
        if time.monotonic() - self._last > _HEARTBEAT_SECONDS:
            self.send(Heartbeat())


def _serve(channel: BeatingChannel, request: Request, backend: Backend, memory: int) -> None:
    try:
        _answer(channel, request, backend)
    except VideoError as error:
        channel.send(error)
    except MemoryError:
        reason = f"Decoding it needs more than {memory >> 20} MiB of memory."
        channel.send(VideoError(f"{reason} Raise video.memory_limit_gib."))
    except av.FFmpegError as error:
        reason = f"FFmpeg failed: {clean(str(error))}. Download the file again, or re-encode it."
        channel.send(_blamed(error, reason))
    except OSError as error:
        reason = f"It cannot be read: {error.strerror}. Check its disk or network share."
        channel.send(_blamed(error, reason))


def _blamed(error: BaseException, reason: str) -> Exception:
    """Return a VideoError with this reason, or an OSError if writing the output failed."""
    if isinstance(error, TargetError):
        return OSError(error.errno, error.strerror, error.filename)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return OSError(error.errno, error.strerror)
    return VideoError(reason)


def _answer(channel: BeatingChannel, request: Request, backend: Backend) -> None:
    path = Path(request.path)
    if isinstance(request, Open):
        _decode(channel, _open(request, backend, channel.beat))
    elif isinstance(request, Seek):
        channel.send_batch(frames_at(path, request.times, request.spec, channel.beat))
    elif request.copy:
        channel.send(copy_clips(path, request.clips, channel.beat))
    else:
        channel.send(encode_clips(path, request.clips, channel.beat))


def _open(request: Open, backend: Backend, on_progress: Callable[[], None]) -> FrameStream:
    path = Path(request.path)
    if backend == "pyav":
        return PyAVStream(path, request.spec, threads=request.threads, on_progress=on_progress)
    device: Device = "gpu" if backend == "dali-gpu" else "cpu"
    return DaliStream(path, request.spec, device=device, on_progress=on_progress)


def _decode(channel: BeatingChannel, stream: FrameStream) -> None:
    try:
        channel.send(stream.info)
        for batch in stream:
            channel.send_batch(batch)
        channel.send(stream.report)
    finally:
        stream.close()


def _limit(what: int, amount: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        amount = min(amount, hard)
    resource.setrlimit(what, (amount, hard))


def _address_space() -> int:
    """Return the bytes of address space that this process holds, or 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0  # macOS, where the limit is not enforced anyway
    return pages * resource.getpagesize()


def _die_with_parent(fileno: int) -> None:
    """Exit this process, even while it is busy, when the parent's end of the socket closes.

    The kernel's own signal (PR_SET_PDEATHSIG) does not work here: it is sent when the thread that
    started this process ends, even if the parent process is still running.
    """
    watch = select.poll()
    watch.register(fileno, 0)  # hang-ups and errors only
    while not any(event & select.POLLHUP for _, event in watch.poll()):
        pass
    os._exit(0)
