"""What a TensorRT engine is made for, written beside it and compared before it is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from action100m.segmentation.encoders.vjepa2.onnx import ExportType


class EngineError(ValueError):
    """An engine that cannot be built or cannot be used here."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine is made for; another value of any of them needs another engine.

    Attributes:
        version: of this code.
        weights: the checkpoint's identity.
        window: sampled frames a window.
        batch: the most windows at once.
        precision: of the matrix products.
        tensorrt: its version.
        gpu: its name.
        capability: its compute capability, such as "9.0".
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
    """What the engine at that path is made for.

    Raises:
        EngineError: there is none, or its description is damaged.
    """
    try:
        return EngineKey(**json.loads(path.with_suffix(".json").read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"{path} is no engine with its description beside it ({error}): build it with "
            "action100m tensorrt build."
        ) from error


def check_key(engine: EngineKey, here: EngineKey, path: Path) -> None:
    """Refuse an engine that is made for something else.

    Raises:
        EngineError: names what differs.
    """
    wanted = asdict(here)
    for name, value in asdict(engine).items():
        if value != wanted[name]:
            raise EngineError(
                f"The engine {path} is made for {name} {value}, and here is {wanted[name]}: "
                "build another with action100m tensorrt build."
            )
