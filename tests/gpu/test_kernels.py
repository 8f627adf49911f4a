"""The CUDA kernels against the CPU core, which tests/segmentation checks against Pillow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from action100m.segmentation import kernels

torch: Any = pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        kernels.COMPILED_FOR is None, reason="built without nvcc: there are no CUDA kernels"
    ),
]

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def on_gpu(array: np.ndarray[Any, Any]) -> Any:
    return torch.from_numpy(array).cuda()


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def current_stream() -> int:
    handle: int = torch.cuda.current_stream().cuda_stream
    return handle


def prepare(frames: Any, short_side: int, size: int, dtype: Any) -> Any:
    """Prepared frames, in memory that was filled with other values before."""
    prepared = torch.full(
        (len(frames), 3, size, size), float("nan"), dtype=dtype, device=frames.device
    )
    kernels.preprocess_on_gpu(frames, prepared, short_side, current_stream())
    return prepared


def assert_same_bits(prepared: Any, frames: np.ndarray[Any, Any], short_side: int) -> None:
    wanted = torch.from_numpy(kernels.preprocess(frames, short_side, prepared.shape[-1]))
    assert torch.equal(prepared.cpu(), wanted.to(prepared.dtype))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("height", "width", "short_side", "size"),
    [
        (480, 854, 438, 384),  # the usual case, 3 taps
        (854, 480, 438, 384),
        (438, 779, 438, 384),  # nothing to resize
        (384, 384, 0, 384),
        (387, 391, 0, 384),
        (576, 1024, 438, 384),  # 4 taps
        (1080, 1920, 438, 384),  # 6
        (2160, 3840, 438, 384),  # 10: any number
        (4320, 7680, 292, 256),  # 30
        (1079, 1931, 292, 256),
        (37, 53, 64, 48),  # enlarged
        (1, 1, 16, 16),
        (1, 300, 16, 8),
        (3, 2, 24, 24),
        (131, 129, 130, 128),
        (133, 137, 137, 136),  # a second tile of one group of 8
        (700, 501, 333, 264),
    ],
)
def test_preprocess_equals_the_cpu_bitwise(
    height: int, width: int, short_side: int, size: int, dtype: Any
) -> None:
    frames = noise(2, height, width, 3)
    assert_same_bits(prepare(on_gpu(frames), short_side, size, dtype), frames, short_side)


@pytest.mark.parametrize("batch", [0, 1, 3, 65])
def test_preprocess_takes_any_batch(batch: int) -> None:
    frames = noise(batch, 67, 121, 3)
    assert_same_bits(prepare(on_gpu(frames), 60, 48, torch.bfloat16), frames, 60)


@pytest.mark.parametrize("short_side", [0, 60])
@pytest.mark.parametrize("shift", [1, 2, 3, 5, 8, 15])
def test_preprocess_reads_from_any_address(shift: int, short_side: int) -> None:
    frames = noise(2, 67, 121, 3)
    memory = torch.zeros(frames.size + 16, dtype=torch.uint8, device="cuda")
    moved = memory[shift : shift + frames.size].view(frames.shape)
    moved.copy_(torch.from_numpy(frames))
    assert_same_bits(prepare(moved, short_side, 48, torch.float32), frames, short_side)


def test_preprocess_writes_only_its_output() -> None:
    frames = on_gpu(noise(2, 67, 121, 3))
    memory = torch.full((4, 3, 48, 48), 7.0, dtype=torch.bfloat16, device="cuda")
    kernels.preprocess_on_gpu(frames, memory[1:3], 60, current_stream())
    assert bool((memory[0] == 7).all())
    assert bool((memory[3] == 7).all())
    assert bool((memory[1:3] != 7).all())


def test_preprocess_runs_on_the_current_stream() -> None:
    frames = noise(8, 480, 854, 3)
    pinned = torch.from_numpy(frames).pin_memory()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros(frames.shape, dtype=torch.uint8, device="cuda")
        torch.cuda._sleep(50_000_000)  # so that a kernel on another stream would read zeros
        late.copy_(pinned, non_blocking=True)
        prepared = prepare(late, 438, 384, torch.bfloat16)
    stream.synchronize()
    assert_same_bits(prepared, frames, 438)


def test_preprocess_waits_for_the_stream_that_made_the_frames() -> None:
    frames = noise(8, 480, 854, 3)
    prepared = torch.full((8, 3, 384, 384), float("nan"), device="cuda")
    pinned = torch.from_numpy(frames).pin_memory()
    other = torch.cuda.Stream()
    torch.cuda.synchronize()
    late = torch.zeros(frames.shape, dtype=torch.uint8, device="cuda")
    torch.cuda._sleep(50_000_000)
    late.copy_(pinned, non_blocking=True)
    kernels.preprocess_on_gpu(late, prepared, 438, other.cuda_stream)
    other.synchronize()
    assert_same_bits(prepared, frames, 438)


def test_preprocess_can_be_captured_in_a_graph() -> None:
    frames = noise(2, 67, 121, 3)
    source = torch.zeros(frames.shape, dtype=torch.uint8, device="cuda")
    prepared = prepare(source, 60, 48, torch.bfloat16)  # uploads the filters, before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernels.preprocess_on_gpu(source, prepared, 60, current_stream())
    source.copy_(torch.from_numpy(frames))
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(prepared, frames, 60)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("batch", "tubelets", "places", "dimension"),
    [
        (2, 32, 576, 1408),
        (1, 32, 256, 1024),
        (0, 4, 9, 64),
        (3, 1, 1, 8),
        (2, 3, 7, 264),
        (1, 5, 64, 8),
        (1, 2, 65, 256),
        (2, 2, 129, 1280),
    ],
)
def test_pool_is_the_mean(
    batch: int, tubelets: int, places: int, dimension: int, dtype: Any
) -> None:
    tokens = torch.randn(batch, tubelets * places, dimension, device="cuda").to(dtype)
    pooled = torch.full((batch, tubelets, dimension), float("nan"), device="cuda")
    kernels.pool_on_gpu(tokens, pooled, current_stream())
    wanted = tokens.double().view(batch, tubelets, places, dimension).mean(2)
    torch.testing.assert_close(pooled.double(), wanted, rtol=1e-5, atol=2e-6)
    again = torch.empty_like(pooled)
    kernels.pool_on_gpu(tokens, again, current_stream())
    assert torch.equal(pooled, again)


@pytest.mark.parametrize(
    ("starts", "frames", "tubelets", "tubelet", "dimension"),
    [
        ([0, 8, 16, 24], 88, 32, 2, 1408),
        ([5, 0, 5], 21, 8, 2, 33),
        ([3], 10, 1, 4, 8),
        (list(range(100)), 108, 4, 2, 16),  # more than fit into one launch
        ([], 4, 4, 1, 8),
    ],
)
def test_add_windows_interpolates_and_adds(
    starts: list[int], frames: int, tubelets: int, tubelet: int, dimension: int
) -> None:
    pooled = torch.randn(len(starts), tubelets, dimension, device="cuda")
    before = torch.randn(frames, dimension, device="cuda")
    wanted = before.double()
    for window, start in zip(pooled.double(), starts, strict=True):
        wanted[start : start + tubelets * tubelet] += torch.nn.functional.interpolate(
            window.T[None], scale_factor=float(tubelet), mode="linear", align_corners=False
        )[0].T
    sums = before.clone()
    kernels.add_windows_on_gpu(pooled, starts, sums, tubelet, current_stream())
    torch.testing.assert_close(sums.double(), wanted, rtol=1e-5, atol=1e-5)
    again = before.clone()
    kernels.add_windows_on_gpu(pooled, starts, again, tubelet, current_stream())
    assert torch.equal(sums, again)


def test_unsupported_inputs_are_refused() -> None:
    frames = on_gpu(noise(2, 20, 30, 3))
    prepared = torch.empty(2, 3, 16, 16, device="cuda")
    with pytest.raises(ValueError, match="C-contiguous"):
        kernels.preprocess_on_gpu(frames[:, :, ::2], prepared, 16)
    with pytest.raises(ValueError, match="frames must be in an NVIDIA GPU's memory"):
        kernels.preprocess_on_gpu(frames.cpu(), prepared, 16)
    with pytest.raises(TypeError, match="uint8, not float32"):
        kernels.preprocess_on_gpu(frames.float(), prepared, 16)
    with pytest.raises(ValueError, match="crop of 16 pixels"):
        kernels.preprocess_on_gpu(frames, prepared, 15)
    shifted = torch.empty(2 * 3 * 256 + 1, device="cuda")[1:].view(2, 3, 16, 16)
    with pytest.raises(ValueError, match="multiple of 16 bytes"):
        kernels.preprocess_on_gpu(frames, shifted, 16)
    huge = torch.zeros(1, 2000, 2000, 3, dtype=torch.uint8, device="cuda")
    with pytest.raises(ValueError, match="too large to be shrunk so far"):
        kernels.preprocess_on_gpu(huge, torch.empty(1, 3, 8, 8, device="cuda"), 8)
