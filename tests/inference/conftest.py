"""Engines with tiny checkpoints, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from action100m.inference import Engine
from ask_transformers import configured


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    from tiny_models import MAKERS  # noqa: PLC0415 - it needs torch

    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture
def opened(checkpoint: Callable[[str], Path]) -> Callable[..., Any]:
    from action100m.inference.transformers import open_transformers  # noqa: PLC0415

    @contextmanager
    def open_(name: str, **changes: Any) -> Iterator[Engine]:
        with open_transformers(configured(checkpoint(name), **changes)) as engine:
            yield engine

    return open_


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The tokens of every row of every batch that is answered."""
    from action100m.inference.transformers import engine  # noqa: PLC0415

    seen: list[list[list[int]]] = []
    true = engine.generate

    def generate(loaded: Any, rows: Any) -> list[list[int]]:
        answers = true(loaded, rows)
        seen.append(answers)
        return answers

    monkeypatch.setattr(engine, "generate", generate)
    return seen
