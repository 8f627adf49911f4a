"""Frames prepared on the CPU, against Pillow and torch; the CUDA module without a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from action100m.segmentation import kernels


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def denormalised(prepared: NDArray[np.float32]) -> NDArray[np.float64]:
    """Prepared frames as values of 0 to 255, in (b, size, size, 3)."""
    mean, std = np.array(kernels.IMAGENET_MEAN), np.array(kernels.IMAGENET_STD)
    return (prepared.transpose(0, 2, 3, 1) * std + mean) * 255


def resized_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    shorter = min(height, width)
    return int(short_side * height / shorter), int(short_side * width / shorter)


def middle(frames: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    top, left = (frames.shape[1] - size) // 2, (frames.shape[2] - size) // 2
    return frames[:, top : top + size, left : left + size]


def pillow(frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    bilinear = Image.Resampling.BILINEAR
    return np.stack(
        [np.asarray(Image.fromarray(frame).resize((width, height), bilinear)) for frame in frames]
    )


SIZES = pytest.mark.parametrize(
    ("height", "width"), [(480, 854), (854, 480), (1080, 1920), (438, 779)]
)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    short_side=st.integers(1, 70),
    data=st.data(),
)
def test_resized_pixels_equal_pillow(
    height: int, width: int, short_side: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, short_side))
    frames = noise(2, height, width, 3)
    new_height, new_width = resized_size(height, width, short_side)
    # In two steps: where the height shrinks much more than the width, Pillow 13 swaps the passes.
    resized = pillow(pillow(frames, height, new_width), new_height, new_width)
    prepared = denormalised(kernels.preprocess(frames, short_side, size))
    np.testing.assert_allclose(prepared, middle(resized, size), atol=1e-4)


@SIZES
def test_resized_pixels_equal_pillow_at_the_usual_sizes(height: int, width: int) -> None:
    frames = noise(1, height, width, 3)
    resized = pillow(frames, *resized_size(height, width, 438))
    prepared = denormalised(kernels.preprocess(frames, 438, 384))
    np.testing.assert_allclose(prepared, middle(resized, 384), atol=1e-4)


@SIZES
def test_difference_from_torch_is_only_the_rounding_to_8_bits(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    frames = noise(1, height, width, 3)
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).double(),
        resized_size(height, width, 438),
        mode="bilinear",
        antialias=True,
    )
    wanted = middle(exact.permute(0, 2, 3, 1).numpy(), 384)
    error = np.abs(denormalised(kernels.preprocess(frames, 438, 384)) - wanted)
    assert error.max() < 1.01
    assert error.mean() < 0.31


def test_normalisation_equals_float32_arithmetic() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    prepared = kernels.preprocess(grey, 0, 16)
    exact = (grey / 255 - kernels.IMAGENET_MEAN) / kernels.IMAGENET_STD
    np.testing.assert_allclose(prepared, exact.transpose(0, 3, 1, 2), atol=3e-7, rtol=0)


def test_without_resizing_frames_are_only_cropped() -> None:
    frames = noise(1, 21, 30, 3)
    prepared = denormalised(kernels.preprocess(frames, 0, 10))
    np.testing.assert_allclose(prepared, frames[:, 5:15, 10:20], atol=1e-4)
    np.testing.assert_array_equal(
        kernels.preprocess(frames, 21, 10), kernels.preprocess(frames, 0, 10)
    )


def test_strided_and_empty_inputs_are_read() -> None:
    frames = noise(4, 20, 30, 3)
    np.testing.assert_array_equal(
        kernels.preprocess(frames[::2], 16, 16), kernels.preprocess(frames, 16, 16)[::2]
    )
    assert kernels.preprocess(frames[:0], 16, 16).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("shape", "short_side", "size", "message"),
    [
        ((1, 20, 30), 16, 16, "shape"),
        ((1, 20, 30, 4), 16, 16, "shape"),
        ((1, 0, 30, 3), 16, 16, "h, w >= 1"),
        ((1, 20, 30, 3), 16, 17, "crop of 17 pixels"),
        ((1, 20, 30, 3), 0, 21, "shorter side is 20"),
        ((1, 20, 30, 3), -1, 16, "at least 0"),
        ((1, 20, 30, 3), 16, 0, "at least 1"),
    ],
)
def test_invalid_arguments_are_refused(
    shape: tuple[int, ...], short_side: int, size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.preprocess(np.zeros(shape, np.uint8), short_side, size)


def test_float_frames_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        kernels.preprocess(np.zeros((1, 20, 30, 3), np.float32), 16, 16)  # type: ignore[arg-type]


needs_kernels = pytest.mark.skipif(
    kernels.COMPILED_FOR is None, reason="built without nvcc: there are no CUDA kernels"
)


@needs_kernels
def test_the_cuda_module_needs_no_cuda_library() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf")
    from action100m import _cuda  # noqa: PLC0415  there may be none

    dynamic = subprocess.run(
        [readelf, "-d", _cuda.__file__], capture_output=True, text=True, check=True
    ).stdout
    needed = [line for line in dynamic.splitlines() if "NEEDED" in line]
    assert needed
    assert not [line for line in needed if "cuda" in line or "nv" in line]


class Lent:
    """An array that claims to be on a GPU, as far as the checks before a launch can see."""

    def __init__(self, array: NDArray[np.generic], device: int = 0) -> None:
        self.array = array
        self.device = device

    def __dlpack__(self, *, stream: int | None = None) -> object:
        assert stream == 1, "0 is not allowed by the protocol; 1 is the default stream"
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device


def lent(*shape: int, dtype: type = np.float32, device: int = 0) -> Lent:
    return Lent(np.zeros(shape, dtype), device)


frames_lent = lent(2, 20, 30, 3, dtype=np.uint8)


@needs_kernels
@pytest.mark.parametrize(
    ("frames", "prepared", "short_side", "error", "message"),
    [
        (np.zeros(3), lent(2, 3, 16, 16), 16, ValueError, "frames must be in an NVIDIA GPU's"),
        (frames_lent, np.zeros(3), 16, ValueError, "prepared frames must be in an NVIDIA GPU's"),
        ([1], lent(2, 3, 16, 16), 16, TypeError, "array that supports DLPack .*, not list"),
        (lent(2, 20, 30, 3), lent(2, 3, 16, 16), 16, TypeError, "must be uint8, not float32"),
        (lent(1, dtype=np.int64), lent(2, 3, 16, 16), 16, TypeError, "type 0 of 64 bits"),
        (lent(20, 30, 3, dtype=np.uint8), lent(2, 3, 16, 16), 16, ValueError, r"\(b, h, w, 3\)"),
        (lent(2, 3, 20, 30, dtype=np.uint8), lent(2, 3, 16, 16), 16, ValueError, r"20, 3\), not"),
        (
            Lent(np.zeros((2, 20, 60, 3), np.uint8)[:, :, ::2]),
            lent(2, 3, 16, 16),
            16,
            ValueError,
            "frames must be C-contiguous",
        ),
        (frames_lent, lent(2, 3, 16, 16, dtype=np.uint8), 16, TypeError, "float16 or bfloat16"),
        (frames_lent, lent(1, 3, 16, 16), 16, ValueError, r"shape \(2, 3, 16, 16\)"),
        (frames_lent, lent(2, 3, 16, 8), 16, ValueError, r"shape \(2, 3, 8, 8\)"),
        (frames_lent, lent(2, 3, 12, 12), 16, ValueError, "multiple of 8 columns, not 12"),
        (frames_lent, lent(2, 3, 16, 16, device=1), 16, ValueError, "frames are on GPU 1"),
        (
            frames_lent,
            Lent(np.zeros(2 * 3 * 256 + 1, np.float32)[1:].reshape(2, 3, 16, 16)),
            16,
            ValueError,
            "multiple of 16 bytes",
        ),
    ],
)
def test_preprocess_on_gpu_refuses_invalid_arguments(
    frames: kernels.DeviceArray,
    prepared: kernels.DeviceArray,
    short_side: int,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        kernels.preprocess_on_gpu(frames, prepared, short_side)


@needs_kernels
@pytest.mark.parametrize(
    ("tokens", "pooled", "message"),
    [
        (lent(4, 8), lent(1, 2, 8), r"\(b, tokens, d\)"),
        (lent(1, 4, 8), lent(1, 3, 8), "4 tokens cannot be divided evenly among 3 tubelets"),
        (lent(1, 4, 8), lent(1, 0, 8), "among 0 tubelets"),
        (lent(1, 4, 8), lent(1, 2, 4), r"shape \(1, 2, 8\)"),
        (lent(1, 4, 6), lent(1, 2, 6), "multiple of 16 bytes; 6 values do not"),
    ],
)
def test_pool_on_gpu_refuses_invalid_arguments(
    tokens: kernels.DeviceArray, pooled: kernels.DeviceArray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.pool_on_gpu(tokens, pooled)


@needs_kernels
@pytest.mark.parametrize(
    ("starts", "sums", "message"),
    [
        ([0], lent(9, 8), "2 windows, but 1 starts"),
        ([0, 6], lent(9, 8), "window of 4 frames that starts at frame 6 does not fit into 9"),
        ([0, -1], lent(9, 8), "starts at frame -1"),
        ([0, 1], lent(9, 4), r"shape \(9, 8\)"),
    ],
)
def test_add_windows_on_gpu_refuses_invalid_arguments(
    starts: list[int], sums: kernels.DeviceArray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernels.add_windows_on_gpu(lent(2, 2, 8), starts, sums, 2)


_CALL = """
import numpy as np
from action100m.segmentation import kernels

class Lent:
    def __dlpack_device__(self):
        return 2, 0
    def __dlpack__(self, *, stream):
        return np.zeros((1, 2, 8), np.float32).__dlpack__()

kernels.pool_on_gpu(Lent(), Lent())
"""


@needs_kernels
def test_a_missing_gpu_is_reported() -> None:
    # In a separate process from which any GPUs are hidden.
    answer = subprocess.run(
        [sys.executable, "-c", _CALL],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: No usable NVIDIA GPU found" in answer.stderr


def test_kernels_that_were_not_compiled_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_cuda", None)
    array = np.zeros((1, 4, 8), np.float32)
    with pytest.raises(RuntimeError, match="no CUDA kernels: nvcc was missing"):
        kernels.pool_on_gpu(array, array)
