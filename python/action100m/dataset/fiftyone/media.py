"""Write the first seconds of a video as a small MP4 file that browsers play."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action100m.dataset.fiftyone.clock import FrameClock
from action100m.errors import VideoError
from action100m.files import write_atomically
from action100m.video import Decoder, FrameSpec, FrameStream

SIDE = 480  # pixels of the shorter side: what video sites call 480p
_TICKS = 90_000  # per second
_VERSION = 1  # of the clips; if it changes, existing clips are written again
_ENCODER = {"preset": "veryfast", "crf": "23", "g": "60", "bf": "0"}
_LIMITED_RANGE, _BT601 = 1, 6  # as FFmpeg numbers them


def clip_video(video: Path | None, target: Path, seconds: float, decoder: Decoder) -> FrameClock:
    """Write the first seconds of `video` to `target`: H.264, upright, 480p, no sound.

    Time 0 is the first frame; timestamps are kept. A complete `target` that was made with these
    settings is left unchanged if the video has the same size or no longer exists.

    Raises:
        VideoError: the video does not exist or cannot be decoded; `target` is unchanged.
        OSError: `target` cannot be written.
    """
    settings = f"action100m clip {_VERSION}: {seconds!r} s, {SIDE}p, of "
    here = video is not None and video.exists()
    mark = f"{settings}{video.stat().st_size} bytes" if video is not None and here else settings
    if not _marked(target).startswith(mark):
        if video is None:
            raise VideoError("There is no file with its uid.")
        stream = decoder.open(video, FrameSpec(stride=1, side=SIDE))
        try:
            write_atomically(target, lambda path: _encode(stream, path, seconds, mark))
        finally:
            stream.close()
    return _read_clock(target)


def _marked(target: Path) -> str:
    """Return the note in a clip on how it was made; "" if there is no readable clip."""
    if not target.exists():
        return ""
    try:
        with av.open(f"file:{target.absolute()}") as container:
            return container.metadata.get("comment", "")
    except av.FFmpegError:
        return ""


def _read_clock(target: Path) -> FrameClock:
    with av.open(f"file:{target.absolute()}") as container:
        video = container.streams.video[0]
        assert video.duration is not None
        assert video.time_base is not None
        media = {
            "size_bytes": target.stat().st_size,
            "mime_type": "video/mp4",
            "frame_width": video.width,
            "frame_height": video.height,
            "encoding_str": "avc1",
        }
        return FrameClock(video.frames, float(video.duration * video.time_base), media)


def _encode(stream: FrameStream, path: Path, seconds: float, mark: str) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = mark
        frames = _frames(stream, seconds)
        first = next(frames)
        video = _add_stream(container, first[0].shape, stream.info.frame_rate)
        scale = VideoReformatter()
        durations: deque[int] = deque()  # without B-frames, packets come in frame order
        for pixels, start, end in chain([first], frames):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = scale.reformat(
                picture, video.width, video.height, "yuv420p", dst_colorspace=_BT601, threads=1
            )
            frame.pts, frame.time_base = start, Fraction(1, _TICKS)
            durations.append(end - start)
            _mux(container, video.encode(frame), durations)
        _mux(container, video.encode(None), durations)


def _add_stream(
    container: OutputContainer, shape: tuple[int, ...], rate: float | None
) -> VideoStream:
    """Add an H.264 stream for pictures of `shape` (h, w, 3), with the sides rounded up to even."""
    known = Fraction(rate or 25).limit_denominator(1001)
    video = container.add_stream("libx264", rate=known, options=_ENCODER)
    video.height, video.width = (length + length % 2 for length in shape[:2])
    video.pix_fmt = "yuv420p"
    context = video.codec_context
    context.time_base = Fraction(1, _TICKS)
    context.color_range, context.colorspace = _LIMITED_RANGE, _BT601
    return video


def _mux(
    container: OutputContainer, packets: list[Packet[VideoStream]], durations: deque[int]
) -> None:
    for packet in packets:
        packet.duration = durations.popleft()
        container.mux(packet)


def _frames(stream: FrameStream, seconds: float) -> Iterator[tuple[NDArray[np.uint8], int, int]]:
    """Yield the frames before `seconds`, each with the ticks of its start and its end."""
    stop = round(seconds * _TICKS)
    waiting: tuple[NDArray[np.uint8], int] | None = None
    for batch in stream:
        for time, pixels in zip(batch.times.tolist(), batch.pixels, strict=True):
            tick = round(time * _TICKS)
            if waiting is not None:
                tick = max(tick, waiting[1] + 1)
                yield *waiting, min(tick, stop)
            if tick >= stop:
                return
            waiting = pixels, tick
    if waiting is not None:
        end = max(round(stream.report.end * _TICKS), waiting[1] + 1)
        yield *waiting, min(end, stop)
