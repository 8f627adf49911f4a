"""Read videos in one pass, in order, sampling every `stride`-th frame; and cut clips from them."""

from action100m.video.backends import require_backend
from action100m.video.clip import ENCODER, Clip, Obtained, Outcome, Preview
from action100m.video.decoder import DecodeLimits, Decoder
from action100m.video.frames import (
    DecodeReport,
    FrameBatch,
    FrameSpec,
    FrameStream,
    Progress,
    VideoInfo,
    check_pixels,
)
from action100m.video.pool import DecoderPool

__all__ = [
    "ENCODER",
    "Clip",
    "DecodeLimits",
    "DecodeReport",
    "Decoder",
    "DecoderPool",
    "FrameBatch",
    "FrameSpec",
    "FrameStream",
    "Obtained",
    "Outcome",
    "Preview",
    "Progress",
    "VideoInfo",
    "check_pixels",
    "require_backend",
]
