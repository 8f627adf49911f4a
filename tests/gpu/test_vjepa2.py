from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)

from action100m.device import release_memory  # noqa: E402
from action100m.segmentation.encoders.vjepa2 import open_checkpoint  # noqa: E402
from action100m.segmentation.encoders.vjepa2.architecture import Architecture  # noqa: E402
from action100m.segmentation.encoders.vjepa2.attention import is_available  # noqa: E402
from action100m.segmentation.encoders.vjepa2.model import VJepa2Model, make_forward  # noqa: E402

# PyTorch's compiler warns about itself.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_vjepa2(tmp_path_factory.mktemp("tiny"))


def load(tiny: Path, **arguments: Any) -> VJepa2Model:
    return checkpoints.load_vjepa2(open_checkpoint(str(tiny)), **{"device": "cuda", **arguments})


def random_pixels(windows: int) -> Any:
    return torch.randn((windows, 8, 3, 64, 64), generator=torch.Generator().manual_seed(1))


def on_device(pixels: Any, dtype: Any = torch.bfloat16) -> list[Any]:
    return list(pixels.to("cuda", dtype))


def relative_error(values: Any, truth: Any) -> float:
    values, truth = np.asarray(values), np.asarray(truth)
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def frames(height: int, width: int, count: int = 4) -> NDArray[np.uint8]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_float32_equals_transformers(tiny: Path) -> None:
    pixels = random_pixels(3)
    truth = checkpoints.pooled(checkpoints.make_vjepa2(), pixels)
    vectors = load(tiny, precision="float32").embed(on_device(pixels, torch.float32))
    np.testing.assert_allclose(vectors, truth, atol=5e-5)


@pytest.mark.parametrize("attention", ["flash", "cudnn"])
def test_bfloat16_is_near_float32(tiny: Path, attention: Any) -> None:
    pixels = random_pixels(3)
    truth = checkpoints.pooled(checkpoints.make_vjepa2(), pixels)
    vectors = load(tiny, attention=attention).embed(on_device(pixels))
    assert relative_error(vectors, truth) < 0.015


@pytest.mark.parametrize("compiled", [False, True])
def test_float8_is_near_float32(tiny: Path, compiled: bool) -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip(f"{torch.cuda.get_device_name()} has no float8")
    pixels = random_pixels(3)
    truth = checkpoints.pooled(checkpoints.make_vjepa2(), pixels)
    model = load(tiny, precision="fp8", compiled=compiled)
    assert relative_error(model.embed(on_device(pixels)), truth) < 0.1


def test_graphs_replay_the_same_bits_for_every_batch_size(tiny: Path) -> None:
    windows = on_device(random_pixels(3))
    plain, graphed = load(tiny), load(tiny, graphed=True)
    for batch in (3, 1, 3, 2):
        np.testing.assert_array_equal(graphed.embed(windows[:batch]), plain.embed(windows[:batch]))


@pytest.mark.parametrize("graphed", [False, True])
def test_compiled_blocks_are_close_to_eager_ones(tiny: Path, graphed: bool) -> None:
    windows = on_device(random_pixels(3))
    plain, compiled = load(tiny), load(tiny, compiled=True, graphed=graphed)
    for batch in (3, 1):
        expected = plain.embed(windows[:batch])
        assert relative_error(compiled.embed(windows[:batch]), expected) < 0.01


@pytest.mark.parametrize("size", [(73, 129), (432, 768), (40, 50)])
def test_frames_are_prepared_as_on_the_cpu(tiny: Path, size: tuple[int, int]) -> None:
    pixels = frames(*size)
    assert torch.equal(load(tiny).prepare(pixels).cpu(), load(tiny, device="cpu").prepare(pixels))


def test_frames_prepared_during_an_embedding_are_not_disturbed(tiny: Path) -> None:
    model = load(tiny, precision="float32")
    batches = [frames(73, 90, 8) // (number + 1) for number in range(40)]
    truths = [model.prepare(batch).cpu() for batch in batches]
    windows = on_device(random_pixels(3), torch.float32)
    stop = threading.Event()

    def embed() -> None:
        while not stop.is_set():
            model.embed(windows)

    thread = threading.Thread(target=embed)
    thread.start()
    try:
        for batch, truth in zip(batches, truths, strict=True):
            prepared = model.prepare(batch)
            buffer = model.empty(8, prepared)
            buffer[:] = prepared
            del prepared
            model.prepare(batches[0])
            assert torch.equal(buffer.cpu(), truth)
    finally:
        stop.set()
        thread.join()


def test_running_out_of_memory_is_reported_and_recoverable(tiny: Path) -> None:
    batching = pytest.importorskip("action100m.segmentation.batching")
    model = load(tiny)
    windows = on_device(random_pixels(1)) * 20_000  # 4 GB
    expected = model.embed(windows[:1])
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(batching.OutOfDeviceMemoryError, match="memory is full"):
            model.embed(windows)
        np.testing.assert_array_equal(model.embed(windows[:1]), expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_memory_is_free_for_the_next_model(tiny: Path) -> None:
    square = torch.ones((64, 64), device="cuda", dtype=torch.bfloat16)
    square @ square  # cuBLAS keeps its workspace for the life of the process
    del square
    release_memory()
    before = torch.cuda.memory_reserved()
    model = load(tiny, compiled=True)
    model.embed(on_device(random_pixels(3)))
    assert torch.cuda.memory_reserved() > before
    del model
    release_memory()
    assert torch.cuda.memory_reserved() <= before


@pytest.mark.parametrize("attention", ["cudnn", "flash", "fa3", "fa4"])
def test_the_real_vit_g_runs_two_windows(attention: Any) -> None:
    if not is_available(attention):
        pytest.skip(f"the package of {attention} is not installed")
    with torch.device("cuda"):
        rival = checkpoints.VJEPA2Model(checkpoints.VJEPA2Config(**checkpoints.VJEPA2_VIT_G))
    architecture = Architecture.of(rival.config.to_dict())
    weights = rival.encoder.state_dict()
    pixels = torch.randn((2, 64, 3, 384, 384), device="cuda")
    with torch.no_grad():
        exact = make_forward(architecture, weights, frames=64, precision="float32")(pixels[:1])
        half = make_forward(
            architecture, weights, frames=64, precision="bf16", attention=attention
        )(pixels.bfloat16())
    assert half.shape == (2, 32, 1408)
    assert torch.isfinite(half).all()
    assert relative_error(half[:1].cpu(), exact.cpu()) < 0.02
