"""Create the encoder that a configuration names; PyTorch is imported only if it needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from action100m.config import SegmentationConfig
from action100m.errors import ConfigError, as_config_errors
from action100m.segmentation.batching import OutOfDeviceMemoryError
from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.encoders.descriptor import DescriptorEncoder
from action100m.segmentation.windows import WindowedEncoder

if TYPE_CHECKING:
    from action100m.segmentation.encoders.vjepa2 import VJepa2Checkpoint, VJepa2Model


@contextmanager
def open_encoder(config: SegmentationConfig) -> Iterator[Encoder]:
    """Open the encoder that a configuration names; threads may share it once it is loaded.

    Raises:
        ConfigError: a package, checkpoint or device that it needs is not available.
    """
    if config.encoder == "descriptor":
        yield DescriptorEncoder()
        return
    open_model = _open_torch if config.encoder == "vjepa2_torch" else _open_tensorrt
    with as_config_errors():
        model = open_model(config)
    with WindowedEncoder(model) as encoder:
        yield encoder


def load_encoder(encoder: Encoder) -> None:
    """Load an opened encoder and check that it works on this machine.

    Raises:
        ConfigError: it does not work, or its weights cannot be used.
    """
    try:
        with as_config_errors():
            encoder.load()
    except OutOfDeviceMemoryError as error:
        raise ConfigError(f"Not even one window can be encoded. {error}") from error
    except RuntimeError as error:
        raise ConfigError(
            f"The encoder does not run on this machine: {error}. (Compiling it needs a C compiler; "
            "with TORCH_COMPILE_DISABLE=1 nothing is compiled.)"
        ) from error


def pin(config: SegmentationConfig) -> SegmentationConfig:
    """Return the configuration with its revision replaced by the commit it currently refers to.

    Raises:
        ConfigError: the checkpoint is not available.
    """
    if config.encoder == "descriptor":
        return config
    with as_config_errors():
        from action100m.segmentation.encoders.vjepa2.device import find_device

        find_device(config.vjepa2.device, config.vjepa2.precision)  # before gigabytes are fetched
        revision = _open_checkpoint(config).revision
    return config.model_copy(
        update={"vjepa2": config.vjepa2.model_copy(update={"revision": revision})}
    )


def build_tensorrt_engine(config: SegmentationConfig) -> Path:
    """Build the engine for this GPU, or find it in the cache.

    Raises:
        ConfigError: TensorRT, the checkpoint or the GPU is not available.
    """
    with as_config_errors():
        from action100m.segmentation.encoders.vjepa2.tensorrt import build_engine

        settings = config.vjepa2
        if settings.precision == "fp8":
            raise ValueError("fp8 works only in PyTorch: choose bf16 for TensorRT.")
        if settings.attention != "cudnn":
            raise ValueError(
                "TensorRT chooses its own attention kernel: remove segmentation.vjepa2.attention."
            )
        return build_engine(
            _open_checkpoint(config),
            _cache() / "tensorrt",
            device=settings.device,
            precision=settings.precision,
            batch=settings.batch,
        )


def _open_torch(config: SegmentationConfig) -> VJepa2Model:
    from action100m.segmentation.encoders.vjepa2 import open_vjepa2

    settings = config.vjepa2
    return open_vjepa2(
        _open_checkpoint(config),
        device=settings.device,
        precision=settings.precision,
        batch=settings.batch,
        attention=settings.attention,
        compiled=settings.device != "cpu" and settings.precision != "float32",
    )


def _open_tensorrt(config: SegmentationConfig) -> VJepa2Model:
    from action100m.segmentation.encoders.vjepa2.tensorrt import open_engine

    engine = build_tensorrt_engine(config)
    return open_engine(_open_checkpoint(config), engine, device=config.vjepa2.device)


def _open_checkpoint(config: SegmentationConfig) -> VJepa2Checkpoint:
    from action100m.segmentation.encoders.vjepa2 import open_checkpoint

    return open_checkpoint(config.vjepa2.model, config.vjepa2.revision)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "action100m"
