"""What a TensorRT engine was built for, stored next to it and checked before it is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from action100m.segmentation.encoders.vjepa2.onnx import ExportType


class EngineError(ValueError):
    """Raised if an engine cannot be built, or cannot be used on this machine."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built for; if any value differs, another engine is needed.

    Attributes:
        version: version of this code.
        weights: the checkpoint's identity.
        window: sampled frames per window.
        batch: maximum number of windows at once.
        precision: precision of the matrix products.
        tensorrt: version of TensorRT.
        gpu: name of the GPU.
        capability: compute capability of the GPU, such as "9.0".
    """

    version: int
    weights: str
    window: int
    batch: int
    precision: ExportType
    tensorrt: str
    gpu: str
    capability: str


def read_key(path: Path) -> EngineKey:
    """Read what the engine at this path was built for.

    Raises:
        EngineError: the description next to the engine is missing or damaged.
    """
    try:
        return EngineKey(**json.loads(path.with_suffix(".json").read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"The description of the engine {path} cannot be read ({error}): build it with "
            "action100m tensorrt build."
        ) from error


def check_key(engine: EngineKey, here: EngineKey, path: Path) -> None:
    """Check that an engine was built for what is used here.

    Raises:
        EngineError: a value differs; the message names it.
    """
    wanted = asdict(here)
    for name, value in asdict(engine).items():
        if value != wanted[name]:
            raise EngineError(
                f"The engine {path} was built for {name} {value}, not for {wanted[name]}: "
                "build another with action100m tensorrt build."
            )
