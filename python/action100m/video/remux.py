"""Clips without decoding: coded pictures are copied from the key frame before the start on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.codec import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action100m.errors import DISK_ERRORS, VideoError
from action100m.video.clip import Clip, Obtained, Outcome, judged, tracks
from action100m.video.clock import guesses_times, longest_step
from action100m.video.log import FFmpegLog, clean
from action100m.video.mp4 import TOO_LONG, Mp4, longest
from action100m.video.opening import open_video

_MOST_OPEN = 64  # files; a process may usually have 1024
_MOST_MOVED = 32  # places between coded and display order; H.264 and HEVC allow at most 16
_INCOMPLETE = "It would start with a picture that cannot be decoded without those before it."
_INSTEAD = "Cut it without --copy."


def copy_clips(path: Path, clips: list[Clip], on_progress: Callable[[], None]) -> list[Outcome]:
    """Write clips of a video as silent MP4 files, copying the coded pictures.

    A clip begins with the last key frame at or before its start, and ends with the last coded
    picture that it needs.

    Args:
        path: the video.
        clips: the clips to write, in any order; each `target` is written.
        on_progress: called for every packet read.

    Returns:
        The outcome of each clip, in the order of `clips`.

    Raises:
        VideoError: no clip can be obtained from the file.
        OSError: the targets cannot be written.
    """
    with FFmpegLog() as log:
        container, stream = open_video(path, log)
        with container:
            table = _Table.of(container, stream, on_progress)
        outcomes: dict[Path, Outcome] = {}
        parts: dict[Path, _Part] = {}
        for clip in clips:
            part = table.part(clip)
            outcomes[clip.target] = judged(clip, part.obtained if part else None, table.end)
            if part and isinstance(outcomes[clip.target], Obtained):
                parts[clip.target] = part
        rows = tracks(clip for clip in clips if clip.target in parts)
        while rows:
            now, rows = rows[:_MOST_OPEN], rows[_MOST_OPEN:]
            container, stream = open_video(path, log)
            with container:
                wanted = {clip.target: parts[clip.target] for clip in chain.from_iterable(now)}
                outcomes |= _copy(container, stream, wanted, table, on_progress)
    return [outcomes[clip.target] for clip in clips]


@dataclass(frozen=True)
class _Part:
    """Packets `first` to `last` (inclusive), without those that appear before `begin`."""

    first: int
    last: int
    begin: int
    obtained: Outcome


@dataclass(frozen=True, eq=False)
class _Table:
    """The p packets of a file in coded order.

    Attributes:
        time: (p,) int64 ticks at which each picture appears.
        until: (p,) int64 ticks at which the next picture replaces it.
        key: (p,) bool, True for key frames.
        base: seconds per tick.
        origin: ticks at which the first frame appears.
        longest: longest duration of a picture in MP4, in ticks.
    """

    time: NDArray[np.int64]
    until: NDArray[np.int64]
    key: NDArray[np.bool_]
    base: Fraction
    origin: int
    longest: int

    @classmethod
    def of(
        cls, container: InputContainer, stream: VideoStream, on_progress: Callable[[], None]
    ) -> _Table:
        rows = [
            (packet.pts, packet.duration or 0, packet.is_keyframe, packet.is_discard)
            for packet in _packets(container, stream, on_progress)
        ]
        if not rows:
            raise VideoError("Its video stream is empty. Download it again.")
        time, duration, key, hidden = map(np.array, zip(*rows, strict=True))
        order = np.argsort(time, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        moved = np.abs(place - np.arange(len(order))).max()
        if moved > _MOST_MOVED or len(np.unique(time)) < len(time):
            raise VideoError(f"Its timestamps repeat or run backwards. {_INSTEAD}")
        base = stream.time_base or Fraction(1, 90000)
        if np.diff(time[order]).max(initial=0) * float(base) > longest_step(container):
            raise VideoError(f"Its timestamps leap ahead. {_INSTEAD}")
        until = np.empty_like(time)
        until[order[:-1]] = time[order[1:]]
        last = order[-1]
        gap = time[last] - time[order[-2]] if len(order) > 1 else 1
        until[last] = time[last] + (duration[last] or gap)
        shown = time[~hidden] if not hidden.all() else time
        most = int(longest(base) / base)
        return cls(time, until, key.astype(bool), base, int(shown.min()), most)

    def duration(self, number: int) -> int:
        """Return the ticks that a picture is shown, computed because MPEG-TS may not give them."""
        return min(int(self.until[number] - self.time[number]), self.longest)

    @property
    def end(self) -> float:
        """Second at which the video ends."""
        return self._seconds(int(self.until.max()))

    def part(self, clip: Clip) -> _Part | None:
        """Return the packets of a clip, or None if no picture appears in it."""
        seconds = (self.time - self.origin) * float(self.base)
        inside = np.flatnonzero((seconds >= clip.start) & (seconds < clip.end))
        before = np.flatnonzero(self.key & (seconds <= max(clip.start, 0.0)))
        if not (len(inside) and len(before)):
            return None
        first, last = int(before[-1]), int(inside[-1])
        begin = int(self.time[first])
        time = self._taken(first, last)
        until = self.until[first : last + 1].max()
        end = min(int(until), int(time.max()) + self.longest)
        obtained: Outcome = Obtained(self._seconds(begin), self._seconds(end), len(time))
        decoded = _decoded(time)
        if max(np.diff(decoded).max(initial=0), (time - decoded).max()) > self.longest:
            obtained = VideoError(TOO_LONG)
        return _Part(first, last, begin, obtained)

    def decoded(self, part: _Part) -> list[int]:
        """Return the decoding time, in ticks, of each packet that is copied for a part."""
        ticks: list[int] = _decoded(self._taken(part.first, part.last)).tolist()
        return ticks

    def _taken(self, first: int, last: int) -> NDArray[np.int64]:
        """Return (n,) ticks of the packets to copy, in coded order; none is before the first."""
        time = self.time[first : last + 1]
        return np.asarray(time[time >= time[0]])

    def _seconds(self, ticks: int) -> float:
        return float((ticks - self.origin) * self.base)


def _decoded(time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return decoding times for packets in coded order: increasing, and never after `time`.

    They are computed because Matroska does not store any.
    """
    shown = np.sort(time)
    return np.asarray(shown - (shown - time).max())


def _packets(
    container: InputContainer, stream: VideoStream, on_progress: Callable[[], None]
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets with pictures, after checking that they have times and one codec setup."""
    if guesses_times(container, stream):
        kind = container.format.name.upper()
        raise VideoError(f"Its container, {kind}, does not store when pictures appear. {_INSTEAD}")
    setup = stream.codec_context.extradata
    for packet in container.demux(stream):
        on_progress()
        if not packet.size or packet.is_corrupt:
            continue
        if packet.pts is None:
            raise VideoError(f"Its coded pictures have no times. {_INSTEAD}")
        # A live stream repeats its codec header; an MP4 file as we write it holds only one.
        has_new_setup = packet.has_sidedata("new_extradata")
        if has_new_setup and bytes(packet.get_sidedata("new_extradata")) != setup:
            raise VideoError(
                f"Its pictures are coded in another way from some point on. {_INSTEAD}"
            )
        yield packet


def _copy(
    container: InputContainer,
    stream: VideoStream,
    parts: dict[Path, _Part],
    table: _Table,
    on_progress: Callable[[], None],
) -> dict[Path, VideoError]:
    """Write the clips; return those that are not written, because nothing could show them."""
    refused: dict[Path, VideoError] = {}
    waiting = sorted(parts.items(), key=lambda item: item[1].first, reverse=True)
    copies: list[_Copy] = []
    try:
        for number, packet in enumerate(_packets(container, stream, on_progress)):
            whole = None
            while waiting and waiting[-1][1].first == number:
                target, part = waiting.pop()
                whole = _is_whole(packet, stream) if whole is None else whole
                if whole:
                    copies.append(_Copy(target, part, table.decoded(part), stream))
                else:
                    refused[target] = VideoError(f"{_INCOMPLETE} {_INSTEAD}")
            for copy in copies:
                copy.add(packet, table.duration(number))
            for copy in [copy for copy in copies if copy.part.last == number]:
                copies.remove(copy)
                copy.finish()
    except BaseException:
        for copy in copies:
            copy.abandon()
        raise
    return refused


def _is_whole(key: Packet[VideoStream], stream: VideoStream) -> bool:
    """Return whether a key frame gives a picture by itself.

    In H.264, a key frame may be one from which on a picture is renewed in stripes.
    """
    source = stream.codec_context
    if source.codec.canonical_name != "h264":
        return True
    decoder = CodecContext.create(source.codec.name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = source.extradata
    try:
        return bool([*decoder.decode(Packet(bytes(key))), *decoder.decode(None)])
    except MemoryError:
        raise
    except av.FFmpegError:
        return False


class _Copy:
    """Writes one clip."""

    def __init__(self, target: Path, part: _Part, decoded: list[int], source: VideoStream) -> None:
        self.part, self._decoded = part, iter(decoded)
        self._file = Mp4(target)
        self._codec = source.codec_context.codec.canonical_name
        try:
            self._stream = self._file.container.add_stream_from_template(source, opaque=True)
            self._file.container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._file.abandon()
            raise self._refused(error) from error

    def add(self, packet: Packet[VideoStream], duration: int) -> None:
        assert packet.pts is not None
        if packet.pts < self.part.begin:
            return  # it may need pictures before the key frame
        copied = Packet(bytes(packet))
        copied.pts = packet.pts - self.part.begin
        copied.dts = next(self._decoded) - self.part.begin
        copied.duration, copied.time_base = duration, packet.time_base
        copied.is_keyframe = packet.is_keyframe
        copied.stream = self._stream
        try:
            self._file.container.mux(copied)
        except av.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise
            raise self._refused(error) from error

    def finish(self) -> None:
        self._file.finish()

    def abandon(self) -> None:
        self._file.abandon()

    def _refused(self, error: Exception) -> VideoError:
        why = clean(str(error))
        return VideoError(f"An MP4 file cannot take its {self._codec} as it is ({why}). {_INSTEAD}")
