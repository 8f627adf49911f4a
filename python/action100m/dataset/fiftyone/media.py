"""Write the first seconds of a video as a small MP4 file that browsers play."""

from __future__ import annotations

from pathlib import Path

import av

from action100m.dataset.fiftyone.clock import FrameClock
from action100m.errors import VideoError
from action100m.files import write_atomically
from action100m.video import Clip, Decoder, Preview

SIDE = 480  # pixels of the shorter side: what video sites call 480p
_VERSION = 2  # of the clips; if it changes, existing clips are written again


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
        write_atomically(target, lambda path: _cut(video, path, seconds, mark, decoder))
    return _read_clock(target)


def _cut(video: Path, target: Path, seconds: float, mark: str, decoder: Decoder) -> None:
    clip = Clip(0.0, seconds, target, Preview(SIDE, mark))
    (outcome,) = decoder.cut(video, [clip])
    if isinstance(outcome, VideoError):
        raise outcome


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
