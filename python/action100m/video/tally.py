"""Count what one pass over a file finds, and what it should have found."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from action100m.video.clock import Clock
from action100m.video.fragments import promised_end
from action100m.video.log import FFmpegLog, clean

_HOLE_PACKETS = 32  # from a demuxer's complaint to the picture after the hole, at most
_HOLE_BYTES = 0.25  # least size of a missing picture, relative to the mean
_HOLE_FRAMES = 5  # fewer missing pictures are not told from an uneven rate
_EARLY_END = re.compile("ended prematurely|partial file", re.IGNORECASE)


@dataclass
class Tally:
    """Running counts of one pass.

    Attributes:
        frames: number of raw frames decoded.
        demuxed: number of packets of the stream, including empty and hidden ones.
        packets: number of packets that should give a picture.
        holes: number of pictures missing where the demuxer could not read the file.
        stops_short: whether the demuxer reports that the file ends early.
        cut_packet: whether the file ended inside the latest packet.
        errors: number of error messages of decoder and demuxer.
        first_error: the first error message.
    """

    frames: int = 0
    demuxed: int = 0
    packets: int = 0
    holes: int = 0
    stops_short: bool = False
    cut_packet: bool = False
    errors: int = 0
    first_error: str = ""
    _demuxer: str = " "  # how its messages start
    _unreadable_at: int | None = None  # packets
    _bytes: int = 0  # of all packets
    _between: int = 0  # bytes between them, of sound and of the container
    _end: int = 0  # of the latest packet in the file
    _gaps: deque[int] = field(default_factory=lambda: deque([0], _HOLE_PACKETS))

    def demux(
        self, container: InputContainer, stream: VideoStream, log: FFmpegLog
    ) -> Iterator[Packet[VideoStream]]:
        """Yield and count the packets of the stream, up to the first demuxer error."""
        self._demuxer = f"{container.format.name}: "
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self.complain(log.take() or [clean(error.strerror or str(error))])
                self.stops_short = True
                return
            if packet is None:
                return
            self._count(packet)
            yield packet

    def _count(self, packet: Packet[VideoStream]) -> None:
        if not packet.size:
            self.demuxed += packet.pos is not None  # PyAV's final flush packet has no position
            return
        self.demuxed += 1
        # With edit lists, some packets must be decoded although their pictures are not shown.
        self.packets += not packet.is_discard
        self.cut_packet = packet.is_corrupt
        place = packet.pos if packet.pos is not None and packet.pos > 0 else self._end
        if self._end:
            self._gaps.append(place - self._end)
            self._between += place - self._end
        self._bytes += packet.size
        self._end = place + packet.size

    def count_frame(self, step: float, clock: Clock) -> None:
        """Count a frame that appears `step` seconds after the one before.

        A picture may be shown for any time, so a step alone is not a hole: the demuxer must have
        complained, and more bytes must lie there than sound and the container need for that time.
        """
        self.frames += 1
        at, skipped = self._unreadable_at, round(step / clock.interval) - 1
        if at is None or self.packets - at > _HOLE_PACKETS or skipped < _HOLE_FRAMES:
            return
        self._unreadable_at = None
        gap, elsewhere = max(self._gaps), max(clock.now - step, clock.interval)
        others = (self._between - gap) * step / elsewhere
        if gap - others > _HOLE_BYTES * skipped * self._bytes / self.packets:
            self.holes += skipped

    def complain(self, messages: list[str]) -> None:
        """Count error messages."""
        if any(message.startswith(self._demuxer) for message in messages):
            self._unreadable_at = self.packets
        self.errors += len(messages)
        self.first_error = self.first_error or messages[0]
        self.stops_short |= any(_EARLY_END.search(message) for message in messages)

    def expected(self, container: InputContainer, stream: VideoStream, clock: Clock) -> int:
        """Return the number of raw frames that the file should contain, by its packets and headers.

        A claimed duration counts only if the file is known to end early, because complete files
        often claim too much.
        """
        return self.frames + self.lost + self.missing(container, stream, clock)

    @property
    def lost(self) -> int:
        """Number of packets that were read but gave no picture because of an error."""
        # Even in an intact file, not every packet gives a picture (alternate references, second
        # fields), so at most as many pictures are lost as there were errors.
        return min(max(0, self.packets - self.frames), self.errors)

    def missing(self, container: InputContainer, stream: VideoStream, clock: Clock) -> int:
        """Return how many pictures the file promises beyond those read, once it has been read."""
        kind = container.format.name
        if kind.startswith("mov,"):
            unread = max(0, len(stream.index_entries) - self.demuxed)
            end = promised_end(_path(container))
            return unread if end is None else max(unread, _until(end - clock.origin, clock))
        if kind == "avi":
            promised = stream.frames - self.packets if _riff_is_cut(container) else 0
            return max(0, promised, len(stream.index_entries) - self.demuxed)
        if not (self.stops_short or self.cut_packet):
            return self.holes
        claimed = container.duration / 1e6 if container.duration else 0.0
        if kind.startswith("matroska"):  # its duration counts from 0, not from the first frame
            claimed -= clock.origin
        return self.holes + _until(claimed, clock)


def _until(end: float, clock: Clock) -> int:
    """Return how many pictures lie between the latest one and `end`, in seconds of the clock."""
    return max(0, round((end - clock.now) / clock.interval) - 1)


def _path(container: InputContainer) -> Path:
    return Path(container.name.removeprefix("file:"))


def _riff_is_cut(container: InputContainer) -> bool:
    """Return whether an AVI file is shorter than its first chunk says."""
    path = _path(container)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
    return path.stat().st_size < size + 8
