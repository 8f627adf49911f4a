"""V-JEPA 2 as a TensorRT engine, through TensorRT's own Python bindings.

No part of this has run on a GPU yet: the ONNX that it starts from is checked with ONNX Runtime,
and each TensorRT call against the signatures of the real bindings (11.4).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from action100m.config import fingerprint
from action100m.segmentation.encoders.vjepa2.architecture import Architecture
from action100m.segmentation.encoders.vjepa2.checkpoint import Checkpoint
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
        "TensorRT is not installed: pip install 'action100m[tensorrt]', which brings its libraries."
    ) from missing

_VERSION = 1  # of everything here that decides an engine


def build_engine(
    checkpoint: Checkpoint,
    cache: Path,
    *,
    device: str = "cuda",
    precision: ExportType = "bf16",
    window: int | None = None,
    batch: int = 4,
) -> Path:
    """Export a checkpoint and build an engine for a GPU, unless the cache holds it already.

    Args:
        checkpoint: of `open_checkpoint`.
        cache: a folder; made where it is missing.
        device: the GPU, as PyTorch names it.
        precision: of the matrix products.
        window: sampled frames a window; by default as in training.
        batch: the most windows at once.

    Returns:
        The engine's path; a .json beside it says what it is made for.

    Raises:
        ValueError: there is no such GPU, or the window's frames do not fill whole tubelets.
        CheckpointError: the weights cannot be used.
        EngineError: TensorRT refuses the model, in its words.
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
    # On the cache's own disk: the ViT-g's weights are too large for many a /tmp.
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
    checkpoint: Checkpoint, path: Path, *, device: str = "cuda", stride: int = 8
) -> VJepa2Model:
    """An engine that `build_engine` made; it is left to `load`.

    Args:
        checkpoint: what it was built from.
        path: the engine's.
        device: the GPU, as PyTorch names it.
        stride: sampled frames from one window to the next.

    Raises:
        ValueError: there is no such GPU.
        EngineError: the engine is missing, damaged, or made for another GPU, TensorRT version or
            checkpoint.
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
    """Runs an engine on the tensors' own memory, on a stream of its own.

    Args:
        path: of an engine for this GPU and this TensorRT.
        architecture: of its encoder.
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
        """(b, window, 3, crop, crop) to (b, window / tubelet, d) float32."""
        with torch.cuda.device(self._device):  # TensorRT computes on the thread's current one
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
                f"TensorRT refuses a batch of {len(pixels)} windows; its log says why."
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
    checkpoint: Checkpoint, device: torch.device, window: int, batch: int, precision: ExportType
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
    # Strongly typed: the ONNX says what is computed in which precision.
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
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError("TensorRT cannot build the engine; its log says why.")
    return bytes(engine)
