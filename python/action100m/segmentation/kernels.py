"""Prepare frames for a vision transformer and average its tokens, on the CPU and with CUDA.

The functions ending in `_on_gpu` accept any library's arrays (torch, CuPy, DALI) through DLPack,
and write to arrays that the caller owns. They return before the GPU has finished: the work is
queued on a CUDA stream, given as a handle (`torch.cuda.current_stream().cuda_stream`; 0 is the
default stream). Arrays created on another stream must exist until the work is finished.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from action100m import _core
from action100m.video import check_pixels

try:
    import action100m._cuda as _cuda  # noqa: PLR0402  `from` cannot distinguish missing from broken
except ModuleNotFoundError:  # built without nvcc
    _cuda = None  # type: ignore[assignment]

COMPILED_FOR: str | None = None if _cuda is None else _cuda.ARCHITECTURES
"""The GPU architectures that the CUDA kernels were compiled for; None if there are no kernels."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class DeviceArray(Protocol):
    """An array that supports DLPack."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


def preprocess(pixels: NDArray[np.uint8], short_side: int, size: int) -> NDArray[np.float32]:
    """Resize, crop and normalise frames on the CPU, on one core.

    The resized pixels are bit for bit those of Pillow's BILINEAR filter (antialiased), and thus
    within one level of 256 of those of torchvision and the Hugging Face processors: torch's filter
    on uint8 gives another value for less than 1 % of them. The crop is central.

    Args:
        pixels: (b, h, w, 3) uint8 RGB.
        short_side: the shorter side of the resized frames in pixels; the longer one is rounded
            down. If 0, frames are not resized.
        size: the side of the crop in pixels.

    Returns:
        (b, 3, size, size) float32, normalised by ImageNet's mean and standard deviation.

    Raises:
        TypeError: pixels are not uint8.
        ValueError: pixels have another shape, or the crop is larger than the resized frames.
    """
    check_pixels(pixels)
    if short_side < 0 or size < 1:
        raise ValueError(
            f"Frames cannot be resized to {short_side} pixels and cropped to {size}: the first "
            "must be at least 0, the second at least 1."
        )
    contiguous = np.ascontiguousarray(pixels)
    return _core.preprocess(contiguous, short_side, size, IMAGENET_MEAN, IMAGENET_STD)


def preprocess_on_gpu(
    pixels: DeviceArray, prepared: DeviceArray, short_side: int, stream: int = 0
) -> None:
    """Do the same as `preprocess`, with the same bits, on the GPU that holds the frames.

    Args:
        pixels: (b, h, w, 3) uint8 RGB.
        prepared: output, (b, 3, size, size) float32, float16 or bfloat16; size is a multiple of 8,
            and the data are aligned to 16 bytes.
        short_side: as in `preprocess`.
        stream: handle of the CUDA stream to queue on.

    Raises:
        TypeError: an array does not support DLPack or has another dtype.
        ValueError: an array has another shape, is not C-contiguous, or is on another device.
        RuntimeError: the kernels were not compiled, there is no GPU, or CUDA fails.
    """
    _require_kernels()
    _preprocessor(short_side)(pixels, prepared, stream)


def pool_on_gpu(tokens: DeviceArray, pooled: DeviceArray, stream: int = 0) -> None:
    """Average tokens over space. The order of summation is fixed, so results are reproducible.

    Args:
        tokens: (b, tubelets * places, d) float32, float16 or bfloat16; a token of d values is a
            multiple of 16 bytes.
        pooled: output, (b, tubelets, d) float32.
        stream: handle of the CUDA stream to queue on.

    Raises:
        TypeError, ValueError, RuntimeError: as in `preprocess_on_gpu`.
    """
    _require_kernels()
    _cuda.pool(tokens, pooled, stream)


def add_windows_on_gpu(
    pooled: DeviceArray, starts: Sequence[int], sums: DeviceArray, tubelet: int, stream: int = 0
) -> None:
    """Interpolate windows from tubelets to frames and add them up where they overlap.

    Interpolation is linear with half-pixel centres. A frame's windows are added in the order given,
    so results are reproducible. Divide by the number of windows over a frame to get its mean.

    Args:
        pooled: (b, tubelets, d) float32, from `pool_on_gpu`.
        starts: (b,) the frame at which each window begins.
        sums: (frames, d) float32, to which the windows are added.
        tubelet: frames per tubelet.
        stream: handle of the CUDA stream to queue on.

    Raises:
        TypeError, ValueError, RuntimeError: as in `preprocess_on_gpu`; ValueError also if a window
            extends beyond the frames.
    """
    _require_kernels()
    _cuda.add_windows(pooled, starts, sums, tubelet, stream)


def _require_kernels() -> None:
    if _cuda is None:
        raise RuntimeError(
            "This build has no CUDA kernels: nvcc was missing when it was built. Install CUDA's "
            "nvcc, then install action100m again."
        )


@functools.lru_cache(maxsize=8)
def _preprocessor(short_side: int) -> _cuda.Preprocessor:
    return _cuda.Preprocessor(short_side, IMAGENET_MEAN, IMAGENET_STD)
