"""Frame-exact clips: each frame is decoded once and passed to every open encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from math import ceil, inf
from pathlib import Path

import av
from av.codec.context import Flags
from av.filter import Graph
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from action100m.errors import VideoError
from action100m.video.clip import ENCODER, Clip, Obtained, Outcome, Preview, judged, tracks
from action100m.video.geometry import Orientation
from action100m.video.mp4 import TOO_LONG, Mp4, longest
from action100m.video.pictures import Pictures

# Without B-frames a file needs no edit list, and every reader finds the first frame at 0.
_OPTIONS = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "1"}
_PREVIEW = {**_OPTIONS, "crf": "23", "g": "60"}  # small, and quick to seek in
_TIME_BASE = Fraction(1, 90000)
_TICK = float(_TIME_BASE)  # seconds
_ENCODERS_MEMORY = 2 << 30
_BYTES_PER_PIXEL = 100  # of one encoder with these options: its lookahead and reference frames
_MOST_OPEN = 16
_RGB, _BT709 = 0, 1
# The filter's names for FFmpeg's colour space numbers; it treats all others as BT.601.
_MATRICES = {_BT709: "bt709", 4: "fcc", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}


def encode_clips(path: Path, clips: list[Clip], on_progress: Callable[[], None]) -> list[Outcome]:
    """Write clips of a video, silent, upright, with square pixels, as H.264 in MP4.

    Each clip contains the frames that appear from its start on and before its end, at their own
    times; the last frame of a clip that is no preview lasts as long as in the video. For nested
    clips, one pass over the file writes as many levels as fit in memory.

    Args:
        path: the video.
        clips: the clips to write, in any order; each `target` is written.
        on_progress: called for every packet decoded and every frame encoded.

    Returns:
        The outcome of each clip, in the order of `clips`.

    Raises:
        VideoError: no clip can be obtained from the file.
        OSError: the targets cannot be written.
    """
    if ENCODER not in av.codecs_available:
        raise VideoError(
            f"The FFmpeg of this PyAV has no {ENCODER}: cut with --copy, or "
            "pip install --force-reinstall --only-binary av av."
        )
    outcomes: dict[Path, Outcome] = {}
    rows = tracks(clips)
    while rows:
        with Pictures(path, on_progress=on_progress) as pictures:
            width, height = pictures.info.width, pictures.info.height
            fitting = _ENCODERS_MEMORY // (width * height * _BYTES_PER_PIXEL)
            most = max(1, min(_MOST_OPEN, fitting))
            now, rows = rows[:most], rows[most:]
            outcomes |= _Pass(pictures, list(chain.from_iterable(now)), on_progress).run()
    return [outcomes[clip.target] for clip in clips]


class _Pass:
    """One pass over the file, up to the end of the last clip."""

    def __init__(
        self, pictures: Pictures, clips: list[Clip], on_progress: Callable[[], None]
    ) -> None:
        self._pictures, self._on_progress = pictures, on_progress
        self._waiting = deque(sorted(clips, key=lambda clip: clip.start))
        self._open: list[_Encoder] = []
        self._done: list[tuple[Clip, Outcome | None]] = []
        self._upright = {
            preview: _Upright(pictures, preview) for preview in {clip.preview for clip in clips}
        }

    def run(self) -> dict[Path, Outcome]:
        try:
            for time, until, frame in self._shown():
                self._turn_to(time)
                if not (self._open or self._waiting):
                    break
                self._encode(time, until, frame)
        except BaseException:
            for encoder in self._open:
                encoder.abandon()
            raise
        end = self._pictures.end
        self._turn_to(inf)
        return {clip.target: judged(clip, obtained, end) for clip, obtained in self._done}

    def _shown(self) -> Iterator[tuple[float, float, VideoFrame]]:
        """Yield every frame with the times at which it appears and ends."""
        before: tuple[float, VideoFrame] | None = None
        for time, frame in self._pictures:
            if before is not None:
                yield before[0], time, before[1]
            before = time, frame
        if before is not None:
            yield before[0], self._pictures.end, before[1]

    def _turn_to(self, time: float) -> None:
        """Close the clips that end by `time` and open those that start by then."""
        for encoder in [one for one in self._open if one.clip.end <= time]:
            self._open.remove(encoder)
            self._done.append((encoder.clip, encoder.finish()))
        while self._waiting and self._waiting[0].start <= time:
            clip = self._waiting.popleft()
            if clip.end > time:
                self._open.append(_Encoder(clip, self._pictures, self._upright[clip.preview]))
            else:
                self._done.append((clip, None))

    def _encode(self, time: float, until: float, frame: VideoFrame) -> None:
        wanted = {encoder.clip.preview for encoder in self._open}
        upright = {preview: self._upright[preview].frame(frame) for preview in wanted}
        for encoder in self._open:
            encoder.encode(upright[encoder.clip.preview], time, until)
            self._on_progress()


class _Encoder:
    """Writes one clip."""

    def __init__(self, clip: Clip, pictures: Pictures, upright: _Upright) -> None:
        self.clip = clip
        self._file = Mp4(clip.target, clip.preview)
        rate = Fraction(pictures.info.frame_rate or 25).limit_denominator(1001)
        options = _PREVIEW if clip.preview else _OPTIONS
        stream = self._file.container.add_stream(ENCODER, rate, options=options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        stream.width, stream.height = upright.size
        stream.pix_fmt = "yuv420p"
        context.time_base = _TIME_BASE
        context.flags |= Flags.frame_duration  # else the last frame's duration follows the rate
        source = pictures.stream.codec_context
        context.colorspace, context.color_range = upright.colorspace, ColorRange.MPEG
        context.color_primaries, context.color_trc = source.color_primaries, source.color_trc
        self._stream = stream
        self._begin: float | None = None
        self._end, self._frames, self._last = 0.0, 0, -1
        self._torn = False

    def encode(self, frame: VideoFrame, time: float, until: float) -> None:
        """Add a frame that is shown from `time` until `until`."""
        if self._begin is None:
            self._begin = self._end = time
        self._torn |= time > self._end
        if self._torn:
            return
        limit = self.clip.end if self.clip.preview else inf
        if self._frames and limit - time < _TICK:
            return  # a frame is shown for one tick at least, which would be beyond the end
        until = min(until, limit, time + longest(_TIME_BASE))
        ticks = max(self._last + 1, _ticks(time - self._begin))
        frame.pts, frame.time_base = ticks, _TIME_BASE
        frame.duration = max(1, _ticks(until - self._begin) - ticks)
        self._file.container.mux(self._stream.encode(frame))
        self._end, self._last, self._frames = until, ticks, self._frames + 1

    def finish(self) -> Outcome:
        """Complete the file and return what it contains."""
        assert self._begin is not None
        if self._torn:
            self.abandon()
            return VideoError(TOO_LONG)
        self._file.container.mux(self._stream.encode(None))
        self._file.finish()
        return Obtained(self._begin, self._end, self._frames)

    def abandon(self) -> None:
        self._file.abandon()


def _ticks(seconds: float) -> int:
    return round(seconds * _TIME_BASE.denominator)


def _even(length: Fraction) -> int:
    """Return the nearest even number, the smaller one of two, but at least 2."""
    return max(2, 2 * ceil((length - 1) / 2))


class _Upright:
    """Converts frames to one size, upright, with square pixels, in the encoder's pixel format.

    Attributes:
        size: width and height in pixels, the nearest even ones.
        colorspace: FFmpeg's number of the colour space of the converted frames (limited range).
    """

    def __init__(self, pictures: Pictures, preview: Preview | None) -> None:
        width, height = pictures.info.width, pictures.info.height
        scale = Fraction(preview.side, min(width, height)) if preview else Fraction(1)
        self.size = _even(width * scale), _even(height * scale)
        colorspace = pictures.stream.codec_context.colorspace
        self.colorspace = _BT709 if colorspace == _RGB else colorspace
        self._made_for: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def frame(self, frame: VideoFrame) -> VideoFrame:
        orientation = Orientation.of(frame)
        full = frame.color_range == ColorRange.JPEG
        form = frame.width, frame.height, frame.format.name, orientation, frame.colorspace, full
        if form == (*self.size, "yuv420p", Orientation(), self.colorspace, False):
            upright = frame
        else:
            if form != self._made_for:
                self._graph, self._made_for = self._make(frame, orientation, full), form
            assert self._graph is not None
            frame.pts = 0  # so that the graph passes on every frame, whatever its time
            self._graph.push(frame)
            upright = self._graph.vpull()
        upright.pict_type = PictureType.NONE  # else the encoder would repeat the source's choice
        return upright

    def _make(self, frame: VideoFrame, orientation: Orientation, full: bool) -> Graph:
        graph = Graph()
        nodes = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=_TIME_BASE,
            )
        ]
        # Despite its name, `cclock_flip` (transpose 0) is a plain transpose.
        turns = [
            ("transpose", "cclock_flip", orientation.transpose),
            ("hflip", "", orientation.mirror_x),
            ("vflip", "", orientation.mirror_y),
        ]
        nodes += [graph.add(name, words) for name, words, wanted in turns if wanted]
        nodes += [
            graph.add("scale", self._scaling(frame.colorspace, full)),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph

    def _scaling(self, colorspace: int, full: bool) -> str:
        """Return the filter's options; it assumes limited-range BT.601 for what is not given."""
        matrix_in, matrix_out = (
            _MATRICES.get(number, "bt601") for number in (colorspace, self.colorspace)
        )
        options = {
            "flags": "bicubic",
            "in_color_matrix": matrix_in,
            "out_color_matrix": matrix_out,
            "in_range": "pc" if full else "auto",
            "out_range": "tv",
        }
        words = [f"{name}={value}" for name, value in options.items()]
        return ":".join([*map(str, self.size), *words])
