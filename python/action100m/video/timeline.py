"""Frame numbers and times from the packets alone, for decoders that give neither."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video.clock import Clock
from action100m.video.frames import DecodeReport, VideoInfo
from action100m.video.log import FFmpegLog
from action100m.video.tally import Tally


@dataclass(frozen=True, eq=False)
class Timeline:
    """The frames of a file in presentation order, before any is decoded.

    Attributes:
        times: (n,) float64 seconds, as `FrameBatch.times`.
        report: the report of a pass that decodes every frame, with only the demuxer's errors.
    """

    times: NDArray[np.float64]
    report: DecodeReport


def read_timeline(
    container: InputContainer,
    stream: VideoStream,
    log: FFmpegLog,
    info: VideoInfo,
    on_progress: Callable[[], None],
    *,
    one_picture_per_packet: bool = False,
) -> Timeline:
    """Demux a file to its end, without decoding.

    Args:
        container, stream: the newly opened file and its video stream.
        log: the log that captures FFmpeg's messages.
        info: properties of the same file.
        on_progress: called for every packet.
        one_picture_per_packet: whether the decoder needs VP9 packets that each contain one picture,
            which is decoded and shown.

    Raises:
        VideoError: the packets do not determine which frames a decoder returns and their times.
    """
    tally = Tally()
    shown: list[tuple[int, int]] = []
    order: list[int] = []
    cut = False
    for packet in _packets(container, stream, log, tally, on_progress):
        if cut:
            raise VideoError(_doubt("a packet is marked as damaged"))
        cut = packet.is_corrupt
        if cut:
            tally.complain(["The file ends inside a packet."])
        elif _is_shown(packet, first=tally.demuxed == 1, codec=info.codec):
            assert packet.pts is not None
            if one_picture_per_packet and info.codec == "vp9" and not _is_one_vp9(bytes(packet)):
                raise VideoError(_doubt("some show a picture again, or hold a hidden one"))
            shown.append((packet.pts, packet.duration or 0))
            # These two codecs never reorder pictures, whatever the decoding timestamps say.
            place = packet.pts if info.codec in {"vp9", "av1"} else packet.dts
            order += [] if place is None else [place]
    if not shown:
        reason = tally.first_error.rstrip(".") or "its video stream is empty"
        raise VideoError(f"No frame can be decoded ({reason}). Download it again.")
    if any(now > then for now, then in itertools.pairwise(order)):
        raise VideoError(_doubt("timestamps run backwards"))
    shown.sort()
    if any(now == then for (now, _), (then, _) in itertools.pairwise(shown)):
        raise VideoError(_doubt("timestamps repeat"))
    clock = Clock.of(container, stream, info.interval)
    times = np.array([clock.tick(timestamp) for timestamp, _ in shown])
    tally.frames = len(shown)
    report = DecodeReport(
        frames=tally.frames,
        expected=tally.expected(container, stream, clock),
        end=clock.end(shown[-1][1]),
        repaired_times=clock.repaired,
        errors=tally.errors,
        first_error=tally.first_error,
    )
    return Timeline(times, report)


def _packets(
    container: InputContainer,
    stream: VideoStream,
    log: FFmpegLog,
    tally: Tally,
    on_progress: Callable[[], None],
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets that contain data; VideoError for an empty packet inside the file."""
    for packet in tally.demux(container, stream, log):
        if messages := log.take():
            tally.complain(messages)
        if packet.size:
            yield packet
        elif packet.pos is not None:
            raise VideoError(_doubt("packets are empty"))
        on_progress()


def _is_shown(packet: Packet[VideoStream], *, first: bool, codec: str) -> bool:
    """Return whether a packet gives a picture; raise VideoError if decoders may disagree."""
    if packet.pts is None:
        raise VideoError(_doubt("timestamps are missing"))
    if first and not packet.is_keyframe:
        raise VideoError(_doubt("it does not start with a key frame"))
    if packet.is_discard != (packet.pts < 0):
        raise VideoError(_doubt("not exactly the frames before time 0 are hidden"))
    if packet.is_discard:
        return False
    if codec == "vp9" and _is_hidden_vp9(bytes(packet)):
        raise VideoError(_doubt("pictures that are not shown have packets of their own"))
    return True


def _is_hidden_vp9(data: bytes) -> bool:
    """Return whether a packet is one frame that is not shown; superframes always show one.

    Only for profile 0 (8-bit 4:2:0).
    """
    if data[-1] & 0xE0 == 0xC0:
        return False
    shows_again, shown = data[0] & 0x08, data[0] & 0x02
    return not (shows_again or shown)


def _is_one_vp9(data: bytes) -> bool:
    """Return whether a shown packet contains exactly one picture, which no earlier one has."""
    return data[-1] & 0xE0 != 0xC0 and not data[0] & 0x08


def _doubt(what: str) -> str:
    return f"Its packets alone do not identify its pictures: {what}. {ADVICE}"


ADVICE = "Process it in another run with video.decoder = pyav."
