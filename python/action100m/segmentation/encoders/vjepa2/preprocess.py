"""Frames to what V-JEPA 2 was trained on, as transformers' VJEPA2VideoProcessor does it.

Where frames are resized, 8-bit levels may differ from its own by one (it rounds between the two
passes on a CPU, not on a GPU); elsewhere the results are equal.
"""

from __future__ import annotations

import torch
from torch.nn import functional

# ImageNet's, times 255.
_MEAN = (123.675, 116.28, 103.53)
_DEVIATION = (58.395, 57.12, 57.375)


def resized_side(crop: int) -> int:
    """The shorter side, in pixels, that frames are resized to before the crop."""
    return int(crop * 256 / 224)


def preprocess(pixels: torch.Tensor, crop: int, dtype: torch.dtype) -> torch.Tensor:
    """Resize where needed, take the central square, and normalise.

    Args:
        pixels: (b, h, w, 3) uint8 RGB. Frames with a shorter side of `resized_side(crop)` are not
            resampled.
        crop: side of the square.
        dtype: of the result; computed in float32.

    Returns:
        (b, 3, crop, crop), contiguous.
    """
    frames = _resize(pixels.permute(0, 3, 1, 2), resized_side(crop))
    top, left = ((side - crop) // 2 for side in frames.shape[2:])
    frames = frames[:, :, top : top + crop, left : left + crop].float()
    mean, deviation = (
        torch.tensor(values, device=frames.device).view(3, 1, 1) for values in (_MEAN, _DEVIATION)
    )
    normalised = ((frames - mean) / deviation).to(dtype)
    return normalised.contiguous(memory_format=torch.contiguous_format)


def _resize(frames: torch.Tensor, side: int) -> torch.Tensor:
    height, width = frames.shape[2:]
    short = min(height, width)
    if short == side or not len(frames):
        return frames
    size = [side * height // short, side * width // short]
    smooth = functional.interpolate(
        frames.float(), size, mode="bilinear", align_corners=False, antialias=True
    )
    return smooth.round_().clamp_(0, 255)  # as between 8-bit pictures
