"""Read a few pictures of a video by their times: random access, as for training."""

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
"""Containers with an index of times. In others, a seek may land anywhere."""
_FAR = 10.0  # seconds ahead; beyond it, seeking is cheaper than decoding the frames in between
_SLACK = 0.5  # seconds by which a time may exceed the end of the last frame


def frames_at(
    path: Path,
    times: list[float],
    spec: FrameSpec,
    on_progress: Callable[[], None] = lambda: None,
) -> FrameBatch:
    """Return the frame that is shown at each of the given times.

    If the container has no index to seek by, the file is decoded from its start.

    Args:
        path: the video.
        times: (b,) seconds since the first frame, in ascending order.
        spec: size and aspect of the frames; `stride` is ignored.
        on_progress: called for every packet decoded.

    Returns:
        b frames, one per time, repeated if several times show the same frame. Their `times` are
        those at which they appear; `index` is -1, because a seek does not count frames.

    Raises:
        VideoError: the file is not a usable video, or it ends before one of the times.
    """
    with Pictures(path, on_progress=on_progress) as pictures:
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
    """Yield every frame, starting with one that appears no later than `time`."""
    target, step = time, 1.0
    while True:
        frames = pictures.jump(target)
        first = next(frames, None)
        if first is not None and first[0] <= time:
            return chain([first], frames)
        if not target:
            reason = f"Its index is wrong: no seek reaches {time:.2f} s or earlier."
            raise VideoError(f"{reason} Rewrite it with ffmpeg -c copy.")
        # An index may hold decoding times, or name a key frame that does not allow decoding the
        # pictures that appear before it.
        target, step = max(0.0, target - step), 2 * step
