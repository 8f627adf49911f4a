"""Decode a file's pictures with FFmpeg, in order and with their times, despite damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from action100m.errors import VideoError
from action100m.video.clock import Clock, guesses_times
from action100m.video.frames import DecodeReport
from action100m.video.geometry import display_size
from action100m.video.log import FFmpegLog, clean
from action100m.video.opening import describe, open_video
from action100m.video.tally import Tally


class Pictures:
    """One pass over a video in this process, from its first frame on.

    FFmpeg has one log for the whole process: use only one instance at a time.

    Attributes:
        container, stream: the open container and its video stream.
        info: what they say about the video.
        first: the first frame, or None once the iteration has begun.
        clock: computes the times of the frames.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Open the file and decode its first frame.

        Args:
            path: a local file.
            threads: number of decoder threads; see `Decoder.open`.
            on_progress: called for every decoded packet.

        Raises:
            VideoError: the file is not a video that this machine can decode.
        """
        self._on_progress = on_progress
        self._tally = Tally()
        with ExitStack() as resources:
            self._log = resources.enter_context(FFmpegLog())
            self.container, self.stream = open_video(path, self._log)
            resources.callback(self.container.close)
            context = self.stream.codec_context
            context.thread_type, context.thread_count = "AUTO", threads
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                reason = self._tally.first_error.rstrip(".") or "its video stream is empty"
                raise VideoError(f"No frame can be decoded ({reason}). Download it again.")
            self.first: VideoFrame | None = first
            display = display_size(first, self.stream.sample_aspect_ratio)
            self._resources = resources.pop_all()
        self.info = describe(self.container, self.stream, display)
        self.clock = Clock.of(self.container, self.stream, self.info.interval)
        self._guesses_times = guesses_times(self.container, self.stream)
        self._duration: int | None = None

    def __iter__(self) -> Iterator[tuple[float, VideoFrame]]:
        """Yield every frame with its seconds since the first one, which are strictly increasing."""
        for frame in self._all_frames():
            before = self.clock.now
            time, self._duration = self.clock.tick(self._timestamp(frame)), frame.duration
            self._tally.count_frame(time - before, self.clock)
            yield time, frame

    def jump(self, time: float) -> Iterator[tuple[float, VideoFrame]]:
        """Yield every frame from the last key frame before a time on, by the container's index.

        From here on, times are the file's own timestamps, unrepaired, and `report` is meaningless.
        """
        base = self.stream.time_base or Fraction(1, 90000)
        self.container.seek(int((time + self.clock.origin) / base), stream=self.stream)
        self.stream.codec_context.flush_buffers()
        self._frames = self._decode()
        for frame in self._frames:
            seconds = self.clock.at(self._timestamp(frame))
            if seconds is not None:
                self.clock.now, self._duration = seconds, frame.duration
                yield seconds, frame

    @property
    def end(self) -> float:
        """Second at which the latest frame ends."""
        return self.clock.end(self._duration)

    def report(self) -> DecodeReport:
        """Return the report on the pass, once the file has been read to its end."""
        tally = self._tally
        return DecodeReport(
            frames=tally.frames,
            expected=tally.expected(self.container, self.stream, self.clock),
            end=self.end,
            repaired_times=self.clock.repaired,
            errors=tally.errors,
            first_error=tally.first_error,
        )

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _timestamp(self, frame: VideoFrame) -> int | None:
        # A decoder returns pictures in order, so their packets' decoding times are in order too.
        return frame.dts if self._guesses_times else frame.pts

    def _all_frames(self) -> Iterator[VideoFrame]:
        if self.first is not None:
            first, self.first = self.first, None
            yield first
            del first  # the decoder cannot reuse the buffer of a frame that is still referenced
        yield from self._frames

    def _decode(self) -> Iterator[VideoFrame]:
        cut: Packet[VideoStream] | None = None
        for packet in self._tally.demux(self.container, self.stream, self._log):
            if not packet.size:
                continue  # an empty packet would tell the decoder that the stream has ended
            if cut is not None:
                yield from self._decode_packet(cut)
            cut = packet if packet.is_corrupt else None
            if cut is None:
                yield from self._decode_packet(packet)
        yield from self._decode_packet(None)
        if cut is not None:
            yield from self._decode_cut(cut)

    def _decode_cut(self, packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
        """Decode the packet that the file's end cuts off, separately from all others.

        An error while a decoder with several threads is flushed would lose the frames before it.
        If the packet is not a key frame, it is lost, because it needs those frames.
        """
        self._tally.complain(["The file ends inside a packet."])
        if packet.is_keyframe:
            self.stream.codec_context.flush_buffers()
            yield from self._decode_packet(packet)
            yield from self._decode_packet(None)

    def _decode_packet(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        frames: list[VideoFrame] = []
        try:
            frames = self.stream.decode(packet)
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
            messages = [clean(error.strerror or str(error))]
        if messages:
            self._tally.complain(messages)
