"""V-JEPA 2 as a TensorRT engine, through TensorRT's own Python bindings.

No part of this module has run on a GPU yet: its ONNX input is checked with ONNX Runtime, and each
TensorRT call against the signatures of the real bindings (11.4).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from action100m.config import fingerprint
from action100m.segmentation.encoders.vjepa2.architecture import Architecture
from action100m.segmentation.encoders.vjepa2.checkpoint import VJepa2Checkpoint
from action100m.segmentation.encoders.vjepa2.device import find_device
from action100m.segmentation.encoders.vjepa2.engine_key import (
    EngineError,
    EngineKey,
    check_key,
    read_key,
)
from action100m.segmentation.encoders.vjepa2.model import VJepa2Model
from action100m.segmentation.encoders.vjepa2.onnx import (
    DTYPES,
    INPUT,
    OUTPUT,
    ExportType,
    export_onnx,
)

try:
    import tensorrt as trt
except ImportError as missing:
    raise ImportError(
        "TensorRT is not installed: pip install 'action100m[tensorrt]'; it includes its libraries."
    ) from missing

_VERSION = 3  # of everything here that affects an engine


def build_engine(
    checkpoint: VJepa2Checkpoint,
    cache: Path,
    *,
    device: str = "cuda",
    precision: ExportType = "bf16",
    window: int | None = None,
    batch: int = 4,
) -> Path:
    """Export a checkpoint and build an engine for a GPU, unless it is already in the cache.

    Args:
        checkpoint: as returned by `open_checkpoint`.
        cache: a folder; created if missing.
        device: PyTorch's name of the GPU.
        precision: precision of the matrix products.
        window: sampled frames per window; by default as in training.
        batch: maximum number of windows at once.

    Returns:
        The path of the engine; a .json file next to it describes what it was built for.

    Raises:
        ValueError: there is no such GPU, or the window is not a multiple of the tubelet.
        CheckpointError: the weights cannot be used.
        EngineError: TensorRT cannot read the model or build the engine.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}.")
    place = _find_gpu(device)
    frames = checkpoint.architecture.frames if window is None else window
    key = _key(checkpoint, place, frames, batch, precision)
    path = cache / f"vjepa2-{fingerprint(asdict(key))}.engine"
    if path.is_file() and path.with_suffix(".json").is_file():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    # On the disk of the cache, because /tmp is often too small for the weights of the ViT-g.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        onnx = Path(folder) / "encoder.onnx"
        export_onnx(checkpoint, onnx, window=frames, precision=precision)
        built = Path(folder) / "engine"
        with torch.cuda.device(place):
            built.write_bytes(_compile(onnx, checkpoint.architecture, key))
        description = Path(folder) / "json"
        description.write_text(json.dumps(asdict(key), indent=2), "utf-8")
        built.replace(path)
        description.replace(path.with_suffix(".json"))
    return path


def open_engine(
    checkpoint: VJepa2Checkpoint, path: Path, *, device: str = "cuda", stride: int = 8
) -> VJepa2Model:
    """Open an engine from `build_engine`; `load` reads it later.

    Args:
        checkpoint: the checkpoint that the engine was built from.
        path: path of the engine.
        device: PyTorch's name of the GPU.
        stride: sampled frames from the start of one window to that of the next.

    Raises:
        ValueError: there is no such GPU.
        EngineError: the engine's description is missing or damaged, or it was built for another
            GPU, TensorRT version or checkpoint.
    """
    place = _find_gpu(device)
    key = read_key(path)
    check_key(key, _key(checkpoint, place, key.window, key.batch, key.precision), path)
    return VJepa2Model(
        lambda: EngineForward(path, checkpoint.architecture, place),
        checkpoint.architecture,
        name="vjepa2_tensorrt",
        identity=f"{checkpoint.identity} {key.precision} TensorRT {key.tensorrt}",
        device=place,
        dtype=DTYPES[key.precision],
        window=key.window,
        stride=stride,
        batch=key.batch,
    )


class EngineForward:
    """Runs an engine directly on the memory of tensors, on a separate stream.

    Args:
        path: path of an engine for this GPU and this TensorRT version.
        architecture: sizes of its encoder.
        device: the GPU.
    """

    def __init__(self, path: Path, architecture: Architecture, device: torch.device) -> None:
        self._architecture = architecture
        self._device = device
        self._stream = torch.cuda.Stream(device)
        with torch.cuda.device(device):
            runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
            if engine is None:
                raise EngineError(f"TensorRT cannot read the engine {path}: build it again.")
            context = engine.create_execution_context()
            if context is None:
                raise EngineError(f"The engine {path} does not fit into the memory of {device}.")
        # The context uses the engine, and the engine the runtime.
        self._runtime, self._engine, self._context = runtime, engine, context

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (b, window, 3, crop, crop) to (b, window / tubelet, d) float32."""
        with torch.cuda.device(self._device):  # TensorRT uses the thread's current device
            return self._run(pixels)

    def _run(self, pixels: torch.Tensor) -> torch.Tensor:
        pixels = pixels.contiguous()
        tubelets = self._architecture.tubelets(pixels.shape[1])
        vectors = pixels.new_empty(
            (len(pixels), tubelets, self._architecture.dimension), dtype=torch.float32
        )
        callers = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(callers)
        context = self._context
        ready = (
            context.set_input_shape(INPUT, tuple(pixels.shape))
            and context.set_tensor_address(INPUT, pixels.data_ptr())
            and context.set_tensor_address(OUTPUT, vectors.data_ptr())
            and context.execute_async_v3(self._stream.cuda_stream)
        )
        if not ready:
            raise EngineError(
                f"TensorRT rejects a batch of {len(pixels)} windows; its log gives the reason."
            )
        callers.wait_stream(self._stream)
        for tensor in (pixels, vectors):
            tensor.record_stream(self._stream)
        return vectors


def _find_gpu(name: str) -> torch.device:
    device = find_device(name, "bf16")
    if device.type != "cuda":
        raise ValueError(f"TensorRT needs an NVIDIA GPU, not {name!r}.")
    return device


def _key(
    checkpoint: VJepa2Checkpoint,
    device: torch.device,
    window: int,
    batch: int,
    precision: ExportType,
) -> EngineKey:
    major, minor = torch.cuda.get_device_capability(device)
    return EngineKey(
        version=_VERSION,
        weights=checkpoint.identity,
        window=window,
        batch=batch,
        precision=precision,
        tensorrt=trt.__version__,
        gpu=torch.cuda.get_device_name(device),
        capability=f"{major}.{minor}",
    )


def _compile(onnx: Path, architecture: Architecture, key: EngineKey) -> bytes:
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # Strongly typed: the ONNX file determines the precision of each operation.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"TensorRT cannot read the exported model: {errors}")
    frame = (3, architecture.crop, architecture.crop)
    profile = builder.create_optimization_profile()
    least, most = (1, key.window, *frame), (key.batch, key.window, *frame)
    profile.set_shape(INPUT, least, most, most)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # PyTorch's products are true float32 too
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError("TensorRT cannot build the engine; its log gives the reason.")
    return bytes(engine)
