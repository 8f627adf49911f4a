"""Decodes a video in this process with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action100m.video.clock import Clock
from action100m.video.frames import DecodeReport, FrameBatch, FrameSpec, VideoError, VideoInfo
from action100m.video.geometry import Scaler
from action100m.video.log import FFmpegLog, clean
from action100m.video.opening import describe, open_video
from action100m.video.tally import Tally

_BATCH_FRAMES = 32
_BATCH_BYTES = 1 << 25


class PyAVStream:
    """One pass over a video in this process: a `FrameStream`.

    A hostile file can hang or kill the process that reads it, and FFmpeg's log is one for the
    whole process: have one of these at a time, in a process of its own (`Decoder` does that).
    """

    def __init__(
        self,
        path: Path,
        spec: FrameSpec,
        *,
        threads: int = 1,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file and decode its first frame.

        Args:
            path: a local file.
            spec: which frames, at what size.
            threads: of the decoder.
            on_progress: called for every packet that has been decoded.

        Raises:
            VideoError: no video that this machine decodes.
        """
        self._spec, self._on_progress = spec, on_progress
        self._tally = Tally()
        self._report: DecodeReport | None = None
        with ExitStack() as resources:
            self._log = resources.enter_context(FFmpegLog())
            self._container, self._stream = open_video(path, self._log)
            resources.callback(self._container.close)
            context = self._stream.codec_context
            context.thread_type, context.thread_count = "AUTO", threads
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                reason = self._tally.first_error or "its video stream is empty"
                raise VideoError(f"No picture can be decoded ({reason}).")
            self._first: VideoFrame | None = first
            self._scaler = Scaler(first, self._stream.sample_aspect_ratio, spec)
            self._resources = resources.pop_all()
        self._info = describe(self._container, self._stream, self._scaler.display)
        self._clock = Clock(self._stream.time_base or Fraction(1, 90000), self._info.interval)

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def report(self) -> DecodeReport:
        if self._report is None:
            raise RuntimeError("The report is complete once all frames have been read.")
        return self._report

    def __iter__(self) -> Iterator[FrameBatch]:
        shape = self._scaler.shape
        size = min(_BATCH_FRAMES, max(1, _BATCH_BYTES // int(np.prod(shape))))
        stride, clock, tally = self._spec.stride, self._clock, self._tally
        index: list[int] = []
        times: list[float] = []
        pixels = np.empty((size, *shape), np.uint8)
        duration = None
        for frame in self._all_frames():
            time, duration = clock.tick(frame.pts), frame.duration
            if tally.frames % stride == 0:
                self._scaler.draw(frame, pixels[len(index)])
                index.append(tally.frames)
                times.append(time)
            tally.frames += 1
            if len(index) == size:
                yield _batch(index, times, pixels)
                index, times, pixels = [], [], np.empty_like(pixels)
        if index:
            yield _batch(index, times, pixels[: len(index)])
        self._report = DecodeReport(
            frames=tally.frames,
            expected=tally.expected(self._container, self._stream, clock),
            end=clock.end(duration),
            repaired_times=clock.repaired,
            errors=tally.errors,
            first_error=tally.first_error,
        )

    def close(self) -> None:
        self._resources.close()

    def _all_frames(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
            del first  # a frame kept is a buffer that the decoder cannot reuse
        yield from self._frames

    def _decode(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        cut: Packet[VideoStream] | None = None
        while True:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self._complain(error)
                self._tally.stops_short = True
                break
            if packet is None:
                break
            self._tally.packet(packet)
            if not packet.size:
                continue  # it would tell the decoder that the stream has ended
            if cut is not None:
                yield from self._decode_packet(cut)
            cut = packet if packet.is_corrupt else None
            if cut is None:
                yield from self._decode_packet(packet)
        yield from self._decode_packet(None)
        if cut is not None:
            yield from self._decode_cut(cut)

    def _decode_cut(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        """Decode the packet that the file's end cuts off, apart from all others.

        An error while a decoder with several threads is emptied would take the frames before
        with it. A packet that needs those frames is lost.
        """
        self._tally.complain(["The file ends inside a packet."])
        if packet.is_keyframe:
            self._stream.codec_context.flush_buffers()
            yield from self._decode_packet(packet)
            yield from self._decode_packet(None)

    def _decode_packet(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        frames: list[VideoFrame] = []
        try:
            frames = self._stream.decode(packet)
        except (MemoryError, BlockingIOError):  # no room for a picture or for a thread
            raise MemoryError from None
        except av.FFmpegError as error:
            self._complain(error)
        else:
            self._complain(None)
        self._on_progress()
        return frames

    def _complain(self, error: av.FFmpegError | None) -> None:
        messages = self._log.take()
        if error is not None and not messages:
            messages = [clean(str(error))]
        if messages:
            self._tally.complain(messages)


def _batch(index: list[int], times: list[float], pixels: NDArray[np.uint8]) -> FrameBatch:
    return FrameBatch(np.array(index, np.int64), np.array(times, np.float64), pixels)
