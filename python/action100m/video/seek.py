"""A few pictures of a video, by their times: for reading at random, as training does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from action100m.errors import VideoError
from action100m.video.frames import FrameBatch, FrameSpec
from action100m.video.geometry import Scaler
from action100m.video.pictures import Pictures

_INDEXED = ("mov,", "matroska")
"""Containers in which a time can be looked up. In others, a seek may land anywhere."""
_FAR = 10.0  # seconds; from here on a seek is cheaper than decoding what lies between
_SLACK = 0.5  # seconds that a time may lie after the last frame's end


def frames_at(
    path: Path,
    times: list[float],
    spec: FrameSpec,
    threads: int = 1,
    on_progress: Callable[[], None] = lambda: None,
) -> FrameBatch:
    """The frame that is shown at each of some moments.

    Where the container has no index to seek by, the file is decoded from its start.

    Args:
        path: the video.
        times: (b,) seconds since the first frame, in order.
        spec: `side` and `aspect` count.
        threads: of the decoder.
        on_progress: called for every packet decoded.

    Returns:
        b frames, a frame as often as it was asked for; `times` tells when each appears, `index` is
        -1: a seek does not count frames.

    Raises:
        VideoError: no such video, or it ends before one of the times.
    """
    with Pictures(path, threads=threads, on_progress=on_progress) as pictures:
        assert pictures.first is not None
        scaler = Scaler(pictures.first, pictures.stream.sample_aspect_ratio, spec)
        pixels = np.empty((len(times), *scaler.shape), np.uint8)
        appears = np.empty(len(times))
        for k, (time, frame) in enumerate(_at(pictures, times)):
            if k and appears[k - 1] == time:
                pixels[k] = pixels[k - 1]
            else:
                scaler.draw(frame, pixels[k])
            appears[k] = time
    return FrameBatch(np.full(len(times), -1), appears, pixels)


def _at(pictures: Pictures, times: list[float]) -> Iterator[tuple[float, VideoFrame]]:
    indexed = pictures.info.container.startswith(_INDEXED)
    frames = iter(pictures)
    now = ahead = next(frames)
    for time in times:
        if indexed and time - ahead[0] > _FAR:
            frames = _jump(pictures, time)
            now = ahead = next(frames)
        while ahead[0] <= time:
            now = ahead
            following = next(frames, None)
            if following is None:
                break
            ahead = following
        if ahead is now and time > pictures.end + _SLACK:
            reason = f"The video ends at {pictures.end:.2f} s, before {time:.2f} s."
            raise VideoError(f"{reason} Check that the times belong to this video.")
        yield now


def _jump(pictures: Pictures, time: float) -> Iterator[tuple[float, VideoFrame]]:
    """Every frame from one on that appears no later than a time."""
    target, step = time, 1.0
    while True:
        frames = pictures.jump(target)
        first = next(frames, None)
        if first is not None and first[0] <= time:
            return chain([first], frames)
        if not target:
            reason = f"Its index is wrong: no seek reaches {time:.2f} s or earlier."
            raise VideoError(f"{reason} Rewrite it with ffmpeg -c copy.")
        # An index may tell when pictures are decoded, or name a key frame with which those that
        # appear before it cannot be decoded.
        target, step = max(0.0, target - step), 2 * step
