"""Read videos in one pass, in order, sampling every `stride`-th frame."""

from action100m.errors import VideoError
from action100m.video.decoder import DecodeLimits, Decoder
from action100m.video.frames import DecodeReport, FrameBatch, FrameSpec, FrameStream, VideoInfo

__all__ = [
    "DecodeLimits",
    "DecodeReport",
    "Decoder",
    "FrameBatch",
    "FrameSpec",
    "FrameStream",
    "VideoError",
    "VideoInfo",
]
