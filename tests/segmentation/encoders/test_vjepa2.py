from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)

from action100m.checkpoint import CheckpointError  # noqa: E402
from action100m.inference import EngineStoppedError  # noqa: E402
from action100m.segmentation.encoders.vjepa2 import open_checkpoint  # noqa: E402
from action100m.segmentation.encoders.vjepa2.architecture import Architecture  # noqa: E402
from action100m.segmentation.encoders.vjepa2.attention import (  # noqa: E402
    is_available,
    require_attention,
)
from action100m.segmentation.encoders.vjepa2.model import VJepa2Model, make_forward  # noqa: E402

SIZES: list[dict[str, Any]] = [
    {},
    {"num_attention_heads": 6, "hidden_size": 60, "mlp_ratio": 4.0},
    {"num_attention_heads": 3, "patch_size": 8, "crop_size": 24},
    {"tubelet_size": 4, "frames_per_clip": 12},
    {"qkv_bias": False},
    {"layer_norm_eps": 1e-2, "num_hidden_layers": 1},
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_vjepa2(tmp_path_factory.mktemp("tiny"))


def random_pixels(windows: int, frames: int, crop: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((windows, frames, 3, crop, crop), generator=generator)


def around(forward: Any, tiny: Path, batch: int) -> VJepa2Model:
    """A different forward pass in the same model."""
    model = VJepa2Model(
        lambda: forward,
        open_checkpoint(str(tiny)).architecture,
        name="",
        identity="",
        device=torch.device("cpu"),
        dtype=torch.float32,
        window=8,
        stride=8,
        batch=batch,
    )
    model.load()
    return model


def architecture_of(model: Any) -> Architecture:
    return Architecture.of(model.config.to_dict())


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_vectors_equal_those_of_transformers(sizes: dict[str, Any], tmp_path: Path) -> None:
    rival = checkpoints.make_vjepa2(**sizes)
    rival.save_pretrained(tmp_path)
    model = checkpoints.load_vjepa2(
        open_checkpoint(str(tmp_path)), device="cpu", precision="float32"
    )
    pixels = random_pixels(2, model.window, rival.config.crop_size)
    truth = checkpoints.pooled(rival, pixels)
    assert truth.std() > 0.05  # or nothing would be compared
    np.testing.assert_allclose(model.embed(list(pixels)), truth, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 6, 14])
def test_windows_of_another_length_equal_those_of_transformers(tiny: Path, frames: int) -> None:
    pixels = random_pixels(1, frames, 64)
    model = checkpoints.load_vjepa2(
        open_checkpoint(str(tiny)), device="cpu", precision="float32", window=frames
    )
    truth = checkpoints.pooled(checkpoints.make_vjepa2(), pixels)
    np.testing.assert_allclose(model.embed(list(pixels)), truth, atol=1e-5)


@pytest.mark.slow
def test_the_real_vit_l_equals_transformers() -> None:
    torch.set_num_threads(2)
    rival = checkpoints.make_vjepa2(**checkpoints.VJEPA2_VIT_L)
    pixels = random_pixels(1, 16, 256)
    truth = checkpoints.pooled(rival, pixels)
    forward = make_forward(
        architecture_of(rival), rival.encoder.state_dict(), frames=16, precision="float32"
    )
    np.testing.assert_allclose(forward(pixels), truth, atol=1e-5)


def test_the_vit_g_has_the_published_sizes() -> None:
    architecture = Architecture.of({"model_type": "vjepa2", **checkpoints.VJEPA2_VIT_G})
    assert architecture.tubelets(64) * architecture.grid**2 == 18432
    assert architecture.operations(64) == pytest.approx(113.8e12, rel=1e-3)


@pytest.mark.parametrize("arguments", [{"classifier": True}, {"shard": "100KB"}], ids=str)
def test_classifiers_and_shards_give_the_same_vectors(
    tmp_path: Path, arguments: dict[str, Any]
) -> None:
    checkpoints.save_vjepa2(tmp_path, **arguments)
    model = checkpoints.load_vjepa2(
        open_checkpoint(str(tmp_path)), device="cpu", precision="float32"
    )
    pixels = random_pixels(1, 8, 64)
    arguments.pop("shard", None)
    truth = checkpoints.pooled(checkpoints.make_vjepa2(**arguments), pixels)
    np.testing.assert_allclose(model.embed(list(pixels)), truth, atol=1e-5)


def test_only_the_encoder_weights_are_read(tiny: Path) -> None:
    weights = open_checkpoint(str(tiny)).weights()
    assert set(weights) == set(checkpoints.make_vjepa2().encoder.state_dict())


def test_bfloat16_is_more_accurate_than_transformers(tiny: Path) -> None:
    pixels = random_pixels(3, 8, 64)
    rival = checkpoints.make_vjepa2()
    truth = checkpoints.pooled(rival, pixels)
    theirs = checkpoints.pooled(rival.bfloat16(), pixels.bfloat16())
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu")
    ours = torch.from_numpy(model.embed(list(pixels.bfloat16())))
    assert (ours - truth).norm() < (theirs - truth).norm()


def test_vectors_do_not_depend_on_the_batch(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu", precision="float32")
    pixels = random_pixels(5, 8, 64)
    one_by_one = np.concatenate([model.embed([window]) for window in pixels])
    np.testing.assert_allclose(model.embed(list(pixels)), one_by_one, atol=1e-5)
    assert model.embed([]).shape == (0, 4, 96)


def test_a_model_describes_its_windows(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu", stride=2, batch=3)
    assert (model.window, model.stride, model.tubelet, model.batch) == (8, 2, 2, 3)
    assert (model.dimension, model.short_side, model.name) == (96, 73, "vjepa2")


def test_the_identity_covers_weights_precision_and_windows(tiny: Path, tmp_path: Path) -> None:
    other = checkpoints.save_vjepa2(tmp_path / "other", seed=1)
    same = checkpoints.save_vjepa2(tmp_path / "same")
    first = open_checkpoint(str(tiny))
    models = [
        checkpoints.load_vjepa2(first, device="cpu"),
        checkpoints.load_vjepa2(first, device="cpu", precision="float32"),
        checkpoints.load_vjepa2(first, device="cpu", window=4),
        checkpoints.load_vjepa2(first, device="cpu", stride=4),
        checkpoints.load_vjepa2(open_checkpoint(str(other)), device="cpu"),
    ]
    assert len({model.identity for model in models}) == len(models)
    again = checkpoints.load_vjepa2(open_checkpoint(str(same)), device="cpu", batch=1)
    assert again.identity == models[0].identity


@pytest.mark.slow
# PyTorch's compiler warns about itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_blocks_give_the_same_vectors(tiny: Path) -> None:
    pixels = list(random_pixels(2, 8, 64))
    checkpoint = open_checkpoint(str(tiny))
    plain, compiled = (
        checkpoints.load_vjepa2(checkpoint, device="cpu", precision="float32", compiled=choice)
        for choice in (False, True)
    )
    counters = torch._dynamo.utils.counters
    counters.clear()
    np.testing.assert_allclose(compiled.embed(pixels), plain.embed(pixels), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1  # for all blocks
    np.testing.assert_allclose(compiled.embed(pixels[:1]), plain.embed(pixels[:1]), atol=1e-5)
    assert not counters["graph_break"]


def test_compilation_can_be_switched_off(tiny: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path\n"
        "from action100m.segmentation.encoders.vjepa2 import open_checkpoint, open_vjepa2\n"
        "model = open_vjepa2(open_checkpoint(sys.argv[1]), device='cpu', compiled=True)\n"
        "model.load()\n"
        "model.embed([torch.zeros(8, 3, 64, 64, dtype=torch.bfloat16)])\n"
        "sys.exit(torch._dynamo.utils.counters['stats']['unique_graphs'])"
    )
    environment = {**os.environ, "TORCH_COMPILE_DISABLE": "1"}
    command = [sys.executable, "-c", code, str(tiny)]
    assert subprocess.run(command, check=False, env=environment).returncode == 0


def test_windows_of_the_wrong_shape_are_refused(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu", precision="float32")
    for shape in [(7, 3, 64, 64), (8, 3, 48, 48), (8, 64, 64, 3)]:
        with pytest.raises(ValueError, match="8 frames of 64 x 64"):
            model.embed([torch.zeros(shape)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 7}, "does not fill tubelets of 2"),
        ({"window": 0}, "does not fill tubelets of 2"),
        ({"stride": 0}, "stride 0"),
        ({"batch": 0}, "batch 0"),
        ({"device": "gpu"}, "is not a device"),
        ({"device": "mps"}, "not on 'mps'"),
        ({"device": "cuda:99"}, "There is no device 'cuda:99'"),
        ({"precision": "fp8"}, "fp8 needs an NVIDIA GPU"),
        ({"graphed": True}, "CUDA graphs need a CUDA device"),
    ],
)
def test_unsupported_arguments_are_errors(
    tiny: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        checkpoints.load_vjepa2(open_checkpoint(str(tiny)), **{"device": "cpu", **arguments})


def test_buffers_take_prepared_frames(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 80, 120, 3), dtype=np.uint8)
    prepared = model.prepare(pixels)
    buffer = model.empty(9, prepared)
    buffer[2:7] = prepared
    assert buffer.shape == (9, 3, 64, 64)
    assert buffer.dtype == torch.bfloat16
    assert torch.equal(buffer[2:7], prepared)
    assert model.prepare(pixels[:0]).shape == (0, 3, 64, 64)


def test_frames_of_invalid_types_and_shapes_are_refused(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu")
    with pytest.raises(TypeError, match="uint8"):
        model.prepare(np.zeros((1, 80, 80, 3), np.float32))  # type: ignore[arg-type]
    for shape in [(80, 80, 3), (1, 80, 80, 4), (1, 0, 80, 3)]:
        with pytest.raises(ValueError, match="shape"):
            model.prepare(np.zeros(shape, np.uint8))


def test_frames_may_be_read_only_and_flipped(tiny: Path) -> None:
    model = checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 73, 80, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    flipped = pixels[:, ::-1, :, ::-1]
    assert torch.equal(model.prepare(flipped), model.prepare(flipped.copy()))


def test_running_out_of_memory_is_reported_and_memory_is_freed(tiny: Path) -> None:
    batching = pytest.importorskip("action100m.segmentation.batching")
    taken = []

    def forward(pixels: Any) -> Any:
        scratch = torch.zeros_like(pixels)
        taken.append(weakref.ref(scratch))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model = around(forward, tiny, batch=2)
    with pytest.raises(batching.OutOfDeviceMemoryError, match="memory is full: CUDA out") as found:
        model.embed(list(random_pixels(2, 8, 64)))
    assert found.value is not None
    assert [reference() for reference in taken] == [None]


@pytest.mark.parametrize("room", [9, 4, 3])
def test_try_out_runs_every_compiled_batch_size(tiny: Path, room: int) -> None:
    batching = pytest.importorskip("action100m.segmentation.batching")
    batches = []

    def forward(pixels: Any) -> Any:
        batches.append(len(pixels))
        if len(pixels) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.zeros(len(pixels), 4, 96)

    model = around(forward, tiny, batch=5)
    model.try_out()
    assert batches == [5, 4, 1]
    room = 0
    with pytest.raises(batching.OutOfDeviceMemoryError):
        model.try_out()


def test_a_failed_device_stops_the_engine(tiny: Path) -> None:
    def forward(pixels: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nMore.")

    model = around(forward, tiny, batch=5)
    with pytest.raises(EngineStoppedError, match=r"device failed: CUDA error: an illegal .*red\.$"):
        model.embed(list(random_pixels(1, 8, 64)))


class Broken(torch.Tensor):
    """A tensor on a device that has failed."""

    def __setitem__(self, *_: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_a_device_that_fails_while_frames_are_copied_stops_the_engine(tiny: Path) -> None:
    model = around(lambda pixels: pixels, tiny, batch=5)
    buffer = torch.zeros(4, 3, 64, 64).as_subclass(Broken)
    with pytest.raises(EngineStoppedError, match="device failed: CUDA error: an illegal"):
        model.write(buffer, 0, torch.zeros(2, 3, 64, 64))


def test_memory_that_is_full_for_a_kernel_does_not_stop_the_engine(tiny: Path) -> None:
    batching = pytest.importorskip("action100m.segmentation.batching")

    def forward(pixels: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: out of memory")

    with pytest.raises(batching.OutOfDeviceMemoryError, match="memory is full"):
        around(forward, tiny, batch=5).embed(list(random_pixels(1, 8, 64)))


def test_other_errors_are_raised_unchanged(tiny: Path) -> None:
    def forward(pixels: Any) -> Any:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match=r"^shape mismatch$"):
        around(forward, tiny, batch=5).embed(list(random_pixels(1, 8, 64)))


def test_an_unavailable_attention_is_refused(tiny: Path) -> None:
    with pytest.raises(ValueError, match="'fa4' needs an NVIDIA GPU, not cpu"):
        checkpoints.load_vjepa2(open_checkpoint(str(tiny)), device="cpu", attention="fa4")
    if not hasattr(torch.nn.attention, "activate_flash_attention_impl"):
        pytest.skip("this PyTorch has no other FlashAttention than its own")
    for attention in ("fa3", "fa4"):
        if not is_available(attention):
            with pytest.raises(ValueError, match=f"needs the package flash-attn-{attention[-1]}"):
                require_attention(attention, torch.device("cuda"))


def test_importing_action100m_does_not_import_torch() -> None:
    code = "import sys; from action100m.cli import making; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_that_do_not_fit_name_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    config = (tiny / "config.json").read_text("utf-8")
    wrong = {
        '"hidden_size": 96': '"hidden_size": 48',
        '"num_hidden_layers": 3': '"num_hidden_layers": 4',
        '"num_hidden_layers": 3,': '"num_hidden_layers": 2,',
    }
    (tmp_path / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    for old, new in wrong.items():
        assert old in config
        (tmp_path / "config.json").write_text(config.replace(old, new), "utf-8")
        with pytest.raises(CheckpointError, match="do not fit the checkpoint's own config"):
            checkpoints.load_vjepa2(open_checkpoint(str(tmp_path)), device="cpu")
