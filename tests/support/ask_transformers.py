"""Ask an engine of the transformers library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from action100m.config import TransformersConfig
from action100m.inference import Clip, Engine, Message, Part, Request, Result, Sampling, Text

SIDE = 56  # pixels


def configured(folder: Path | str, **changes: Any) -> TransformersConfig:
    values = {"engine": "transformers", "model": str(folder), "device": "cpu"}
    return TransformersConfig.model_validate({**values, "precision": "float32", **changes})


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def clip(seed: int, frames: int) -> Clip:
    return Clip([picture(100 * seed + k) for k in range(frames)], [0.5 * k for k in range(frames)])


def question(name: str, *parts: Part, schema: Any = None, **sampling: Any) -> Request:
    chosen = Sampling(**{"max_tokens": 12, **sampling})
    return Request(name, (Message("user", parts or (Text(name),)),), chosen, schema)


def ask(engine: Engine, requests: Sequence[Request]) -> list[Result]:
    futures = [engine.submit(request) for request in requests]
    return [future.result(timeout=120) for future in futures]
