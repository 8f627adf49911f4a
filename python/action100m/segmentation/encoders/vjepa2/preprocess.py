"""Prepare frames for V-JEPA 2, as transformers' VJEPA2VideoProcessor does.

Results are the same bits on every device. If frames are resized, 8-bit levels may differ from the
processor's by one; otherwise the results are equal.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from action100m.segmentation import kernels
from action100m.segmentation.encoders.vjepa2.architecture import Architecture


def preprocess(
    pixels: NDArray[np.uint8], architecture: Architecture, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Resize frames if needed, crop the central square, and normalise.

    On a CUDA device this is queued on the current stream; a build without CUDA kernels prepares
    the frames on the CPU instead.

    Args:
        pixels: (b, h, w, 3) uint8 RGB. Frames whose shorter side is the architecture's
            `short_side` are not resampled.
        architecture: gives the sides of the resized and cropped frames.
        dtype: dtype of the result, which is computed in float32.
        device: device of the result.

    Returns:
        (b, 3, crop, crop), contiguous.
    """
    side, crop = architecture.short_side, architecture.crop
    if device.type != "cuda" or kernels.COMPILED_FOR is None:
        return torch.from_numpy(kernels.preprocess(pixels, side, crop)).to(dtype).to(device)
    frames = torch.tensor(np.ascontiguousarray(pixels), device=device)
    prepared = frames.new_empty((len(frames), 3, crop, crop), dtype=dtype)
    stream = torch.cuda.current_stream(device).cuda_stream
    kernels.preprocess_on_gpu(frames, prepared, side, stream)
    return prepared
