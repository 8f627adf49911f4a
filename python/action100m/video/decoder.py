"""Decode videos in a child process, so that no file can hang or crash the run."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from action100m.errors import VideoError
from action100m.processes import python_command
from action100m.trace import span
from action100m.video.backends import require_backend
from action100m.video.channel import Batch, Channel, Cut, Heartbeat, Open, Request, Seek
from action100m.video.clip import Clip, Outcome
from action100m.video.frames import DecodeReport, FrameBatch, FrameSpec, FrameStream, VideoInfo

if TYPE_CHECKING:
    from action100m.config import Backend, VideoConfig

# DALI keeps an index of every file that it has read (measured: 120 bytes per frame) and, on the
# GPU, a hardware decoder for each file whose coded size differs from its displayed size.
_FILES_PER_CHILD: dict[Backend, int] = {"pyav": 256, "dali-cpu": 256, "dali-gpu": 16}
_FREE_MEMORY = "If memory ran out, use fewer --workers."
_REPORT = "Re-encode the file with ffmpeg, and report this crash."
_NO_THREAD = "can't start new thread"


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on what decoding one file may use.

    Attributes:
        memory: bytes of address space that decoding may use beyond the idle process (on Linux;
            not limited on the GPU).
        stall_seconds: longest time in seconds without progress.
    """

    memory: int = 4 << 30
    stall_seconds: float = 60.0


class Decoder:
    """Decodes one video after another in one child process.

    The child starts with the first video, serves many, and is replaced if it dies, stalls or
    fails while decoding (the GPU context may then be corrupt), or if a stream is closed before its
    end. Only one thread may use a `Decoder` at a time; several decoders can work in parallel.
    """

    def __init__(
        self,
        limits: DecodeLimits | None = None,
        *,
        backend: Backend = "pyav",
    ) -> None:
        """Create a decoder; its child process starts later.

        Args:
            limits: limits for each file.
            backend: the decoder to use; a file that DALI cannot decode raises `VideoError`.

        Raises:
            ConfigError: DALI or its device is not available (`require_backend`).
        """
        require_backend(backend)
        self._limits, self._backend = limits or DecodeLimits(), backend
        self._child: _Child | None = None
        self._stream: _ChildStream | None = None

    @classmethod
    def of(cls, config: VideoConfig) -> Decoder:
        """Create a decoder from a configuration."""
        memory = int(config.memory_limit_gib * 2**30)
        limits = DecodeLimits(memory, config.stall_seconds)
        return cls(limits, backend=config.decoder)

    def open(
        self, path: str | os.PathLike[str], spec: FrameSpec, *, threads: int = 1
    ) -> FrameStream:
        """Open a video, closing any earlier stream of this decoder.

        Args:
            path: the video.
            spec: which frames to sample, and their size.
            threads: number of FFmpeg's threads. What several of them make of damage depends on
                which is faster; intact files, and one thread, always give the same frames.

        Raises:
            VideoError: the file is not a usable video.
        """
        request = Open(str(Path(path).absolute()), spec, threads)
        self._stream = _ChildStream(self._ready(), request)
        return self._stream

    def cut(
        self, path: str | os.PathLike[str], clips: list[Clip], *, copy: bool = False
    ) -> list[Outcome]:
        """Write clips of a video as silent MP4 files, in one pass if memory allows.

        Args:
            path: the video.
            clips: the clips to write, in any order.
            copy: if true, copy the coded pictures from the key frame before a clip's start on;
                else a clip is H.264, exact to the frame, upright, with square pixels.

        Returns:
            The outcome of each clip, in the order of `clips`.

        Raises:
            VideoError: no clip can be obtained from the file.
            OSError: the clips cannot be written, for example because the disk is full.
            ValueError: a preview is to be a copy.
        """
        absolute = [replace(clip, target=clip.target.absolute()) for clip in clips]
        answer = self._ask(Cut(str(Path(path).absolute()), absolute, copy), "cutting it")
        assert isinstance(answer, list)
        return answer

    def frames_at(
        self, path: str | os.PathLike[str], times: list[float], spec: FrameSpec
    ) -> FrameBatch:
        """Return the frame that is shown at each of the given times, as `seek.frames_at` does.

        Raises:
            VideoError: the file is not a usable video, or ends before one of the times.
            ValueError: there are no times, or they are not finite or not in order.
        """
        answer = self._ask(Seek(str(Path(path).absolute()), spec, times), "seeking in it")
        assert isinstance(answer, FrameBatch)
        return answer

    def _ask(self, request: Request, doing: str) -> object:
        child = self._ready()
        child.send(request)
        try:
            return child.receive(doing)
        except (VideoError, OSError):
            raise  # the child waits for the next request, or is dead
        except BaseException:
            child.kill()  # its state is unknown
            raise

    def _ready(self) -> _Child:
        """Return a child that is waiting for a request."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._child is None or not self._child.usable:
            self.close()
            self._child = _Child(self._limits, self._backend)
        return self._child

    def interrupt(self) -> None:
        """End the current work from another thread; whoever waits for it gets a VideoError."""
        child = self._child
        if child is not None:
            child.interrupt()

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None if none is running."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.kill()
        self._child = self._stream = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ChildStream:
    """One pass over a video in the child: a `FrameStream`."""

    def __init__(self, child: _Child, request: Open) -> None:
        self._child = child
        self._busy = True
        self._report: DecodeReport | None = None
        child.send(request)
        info = self._receive("opening the file")
        assert isinstance(info, VideoInfo)
        self._info = info

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def report(self) -> DecodeReport:
        if self._report is None:
            raise RuntimeError("The report is complete once all frames have been read.")
        return self._report

    def __iter__(self) -> Iterator[FrameBatch]:
        seconds = 0.0
        while self._busy:
            with span("decode") as figures:
                answer = self._decoded(f"decoding from {seconds:.1f} s on")
                if isinstance(answer, FrameBatch):
                    figures["sampled frames"] = len(answer.times)
            if isinstance(answer, FrameBatch):
                seconds = float(answer.times[-1])
                yield answer
            else:
                assert isinstance(answer, DecodeReport)
                self._report, self._busy = answer, False

    def _decoded(self, doing: str) -> object:
        try:
            return self._receive(doing)
        except VideoError:
            self._child.kill()
            raise

    def close(self) -> None:
        """Stop; a child that is still decoding is killed, and replaced at the next `open`."""
        if self._busy:
            self._busy = False
            self._child.kill()

    def _receive(self, doing: str) -> object:
        try:
            return self._child.receive(doing)
        except VideoError:
            self._busy = False  # the child waits for the next file, or is dead
            raise
        except BaseException:
            self.close()  # an answer was read only in part, so the next ones cannot be parsed
            raise


class _Child:
    """The child process and our end of the socket to it."""

    def __init__(self, limits: DecodeLimits, backend: Backend) -> None:
        self._stall_seconds = limits.stall_seconds
        self._files_left = _FILES_PER_CHILD[backend]
        ours, theirs = socket.socketpair()
        ours.settimeout(limits.stall_seconds)
        self._channel = Channel(ours)
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (kill closes it)
        with theirs:
            self._process = subprocess.Popen(
                python_command("action100m.video.child", theirs.fileno(), backend, limits.memory),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                start_new_session=True,  # only this process handles Ctrl-C
                # Both reserve address space per core, which would count towards the limit.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def usable(self) -> bool:
        return self.alive and self._files_left > 0

    def send(self, message: Request) -> None:
        self._files_left -= 1
        # If the child has died, `receive` reports it.
        with contextlib.suppress(OSError):
            self._channel.send(message)

    def receive(self, doing: str) -> object:
        """Return the next answer other than a heartbeat.

        Raises:
            VideoError: the child failed while `doing` this.
            OSError: the output cannot be written.
        """
        try:
            while isinstance(answer := self._channel.receive(), Heartbeat):
                pass
            if isinstance(answer, Batch):
                pixels = self._channel.receive_pixels(answer.shape)
                return FrameBatch(answer.index, answer.times, pixels)
        except TimeoutError:
            self.kill()
            reason = f"The decoder made no progress for {self._stall_seconds:g} s while {doing}."
            advice = "Raise video.stall_seconds, or re-encode the file with ffmpeg."
            raise VideoError(f"{reason} {advice}", transient=True) from None
        except (EOFError, OSError):
            raise self._cause_of_end(doing) from None
        if isinstance(answer, VideoError | OSError):
            raise answer
        return answer

    def interrupt(self) -> None:
        """End the process; whoever waits for its answer cleans up."""
        self._process.kill()

    def kill(self) -> None:
        """End the process and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
        self._messages.close()

    def _cause_of_end(self, doing: str) -> VideoError | OSError:
        """Return why the process ended, with its last message, and what to do."""
        code = self._process.wait()
        self._messages.seek(max(0, self._messages.seek(0, os.SEEK_END) - 2000))
        words = self._messages.read().decode(errors="replace").strip().split("\n")[-1]
        self.kill()
        if _NO_THREAD in words:  # the machine's limit, which no video causes
            return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        how = f"ended with status {code} ({words.rstrip('.') or 'no message'})"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        advice = _FREE_MEMORY if -code == signal.SIGKILL else _REPORT
        return VideoError(f"The decoder {how} while {doing}. {advice}", transient=True)
