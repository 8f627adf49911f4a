"""Counts what one pass over a file finds, and what it should have found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from action100m.video.clock import Clock
from action100m.video.fragments import promised_end
from action100m.video.log import FFmpegLog, clean

_EARLY_END = re.compile("ended prematurely|partial file", re.IGNORECASE)


@dataclass
class Tally:
    """Running counts of one pass.

    Attributes:
        frames: raw frames decoded.
        demuxed: packets of the stream, empty and hidden ones included.
        packets: packets that should have given a picture.
        stops_short: the demuxer says that the file does.
        cut_packet: the file ended inside the latest packet.
        errors: error messages of decoder and demuxer.
        first_error: the first of them.
    """

    frames: int = 0
    demuxed: int = 0
    packets: int = 0
    stops_short: bool = False
    cut_packet: bool = False
    errors: int = 0
    first_error: str = ""

    def demux(
        self, container: InputContainer, stream: VideoStream, log: FFmpegLog
    ) -> Iterator[Packet[VideoStream]]:
        """The packets of the stream, counted; an error of the demuxer ends them."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self.complain(log.take() or [clean(str(error))])
                self.stops_short = True
                return
            if packet is None:
                return
            self._count(packet)
            yield packet

    def _count(self, packet: Packet[VideoStream]) -> None:
        if not packet.size:
            self.demuxed += packet.pos is not None  # PyAV ends with a packet from nowhere
            return
        self.demuxed += 1
        # Edit lists make a decoder digest packets whose pictures nobody is to see.
        self.packets += not packet.is_discard
        self.cut_packet = packet.is_corrupt

    def complain(self, messages: list[str]) -> None:
        """Count error messages."""
        self.errors += len(messages)
        self.first_error = self.first_error or messages[0]
        self.stops_short |= any(_EARLY_END.search(message) for message in messages)

    def expected(self, container: InputContainer, stream: VideoStream, clock: Clock) -> int:
        """Raw frames that the file should have given, from what it holds and what it promises.

        A claimed duration counts only where the file is known to stop short: complete files
        often claim too much.
        """
        return self.frames + self.lost + self.missing(container, stream, clock)

    @property
    def lost(self) -> int:
        """Pictures whose packets were read and gave none."""
        # Not every packet makes a picture in an intact file (alternate references, second
        # fields): only as many are missed as there were errors.
        return min(max(0, self.packets - self.frames), self.errors)

    def missing(self, container: InputContainer, stream: VideoStream, clock: Clock) -> int:
        """Pictures that should have come after the last packet, once all were read."""
        kind = container.format.name
        if kind.startswith("mov,"):
            unread = max(0, len(stream.index_entries) - self.demuxed)
            end = promised_end(_path(container))
            return unread if end is None else max(unread, _until(end - clock.origin, clock))
        if kind == "avi":
            return max(0, stream.frames - self.packets) if _riff_is_cut(container) else 0
        if not (self.stops_short or self.cut_packet):
            return 0
        claimed = container.duration / 1e6 if container.duration else 0.0
        if kind.startswith("matroska"):  # counts from 0, wherever the first frame stands
            claimed -= clock.origin
        return _until(claimed, clock)


def _until(end: float, clock: Clock) -> int:
    """Pictures between the latest one and the end, in seconds since the first one."""
    return max(0, round((end - clock.now) / clock.interval) - 1)


def _path(container: InputContainer) -> Path:
    return Path(container.name.removeprefix("file:"))


def _riff_is_cut(container: InputContainer) -> bool:
    """Whether an AVI file is shorter than its first chunk says."""
    path = _path(container)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
    return path.stat().st_size < size + 8
