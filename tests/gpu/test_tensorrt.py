"""TensorRT engines against transformers in float32; needs `pip install '.[tensorrt]'`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)
tensorrt = pytest.importorskip(
    "action100m.segmentation.encoders.vjepa2.tensorrt", exc_type=ImportError
)

from action100m.segmentation.encoders.vjepa2 import VJepa2Checkpoint, open_checkpoint  # noqa: E402
from action100m.segmentation.encoders.vjepa2.model import DTYPES, VJepa2Model  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]  # of the ONNX exporter

BATCH = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> VJepa2Checkpoint:
    return open_checkpoint(str(checkpoints.save_vjepa2(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


def load(checkpoint: VJepa2Checkpoint, cache: Path, precision: Any) -> VJepa2Model:
    path = tensorrt.build_engine(checkpoint, cache, precision=precision, batch=BATCH)
    model: VJepa2Model = tensorrt.open_engine(checkpoint, path)
    model.load()
    return model


def random_pixels(windows: int) -> Any:
    return torch.randn((windows, 8, 3, 64, 64), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-4), ("fp16", 0.005), ("bf16", 0.015)]
)
def test_an_engine_gives_the_vectors_for_every_batch_size(
    checkpoint: VJepa2Checkpoint, cache: Path, precision: Any, most: float
) -> None:
    model = load(checkpoint, cache, precision)
    pixels = random_pixels(BATCH)
    truth = np.asarray(checkpoints.pooled(checkpoints.make_vjepa2(), pixels))
    windows = list(pixels.to("cuda", DTYPES[precision]))
    for batch in (BATCH, 1, 2):
        error = np.linalg.norm(model.embed(windows[:batch]) - truth[:batch])
        assert error / np.linalg.norm(truth[:batch]) < most


def test_an_engine_is_built_once(checkpoint: VJepa2Checkpoint, cache: Path) -> None:
    first = tensorrt.build_engine(checkpoint, cache, precision="bf16", batch=BATCH)
    built = first.stat().st_mtime_ns
    again = tensorrt.build_engine(checkpoint, cache, precision="bf16", batch=BATCH)
    assert (again, again.stat().st_mtime_ns) == (first, built)
    assert tensorrt.build_engine(checkpoint, cache, precision="bf16", batch=1) != first


def test_too_large_a_batch_is_refused(checkpoint: VJepa2Checkpoint, cache: Path) -> None:
    model = load(checkpoint, cache, "bf16")
    windows = list(random_pixels(BATCH + 1).to("cuda", torch.bfloat16))
    with pytest.raises(tensorrt.EngineError, match=f"batch of {BATCH + 1} windows"):
        model.embed(windows)


def test_an_engine_runs_while_frames_are_prepared(
    checkpoint: VJepa2Checkpoint, cache: Path
) -> None:
    model = load(checkpoint, cache, "bf16")
    windows = list(random_pixels(BATCH).to("cuda", torch.bfloat16))
    truth = model.embed(windows)
    frames = np.random.default_rng(0).integers(0, 256, (8, 73, 90, 3), dtype=np.uint8)
    stop = threading.Event()

    def prepare() -> None:
        while not stop.is_set():
            model.prepare(frames)

    thread = threading.Thread(target=prepare)
    thread.start()
    try:
        for _ in range(50):
            np.testing.assert_array_equal(model.embed(windows), truth)
    finally:
        stop.set()
        thread.join()
