"""A real llama.cpp server with a tiny SmolVLM."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("httpx")
pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")
pytest.importorskip("torch")
tiny_gguf = pytest.importorskip("tiny_gguf", exc_type=ImportError)

from action100m.config import OpenAIConfig  # noqa: E402
from action100m.inference import (  # noqa: E402
    Clip,
    Engine,
    Image,
    Message,
    Outcome,
    Part,
    Request,
    Sampling,
    Text,
)
from action100m.inference.openai import open_openai  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # from third-party libraries

FRAMES = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(3)]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cut", "N/A"]}, "sure": {"type": "boolean"}},
    "required": ["kind", "sure"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with tiny_gguf.llama_server(tmp_path_factory.mktemp("gguf")) as url:
        config = OpenAIConfig(engine="openai", model="tiny", urls=[url], concurrency=4)
        with open_openai(config) as opened:
            yield opened


@pytest.mark.parametrize(
    "parts",
    [
        [Text("What is it?")],
        [Image(FRAMES[0]), Text("What is it?")],
        [Clip(FRAMES, [0.0, 0.5, 1.0]), Text("What is it?")],
    ],
    ids=["text", "image", "clip"],
)
@pytest.mark.parametrize("schema", [None, SCHEMA], ids=["free", "schema"])
def test_answers(engine: Engine, parts: list[Part], schema: dict[str, object] | None) -> None:
    requests = [
        Request(f"{k}", (Message("user", tuple(parts)),), Sampling(60, 1.0, k), schema)
        for k in range(6)
    ]
    futures = [engine.submit(request) for request in requests]
    for request, future in zip(requests, futures, strict=True):
        result = future.result(timeout=60)
        assert result.id == request.id
        assert result.outcome in (Outcome.COMPLETE, Outcome.TRUNCATED), result.reason
        assert result.usage.prompt > 10
        if schema is not None:
            assert set(json.loads(result.text)) == {"kind", "sure"}


def test_a_prompt_that_is_too_long_fails_with_the_servers_message(engine: Engine) -> None:
    request = Request("1", (Message("user", (Text("wood " * 5000),)),), Sampling())
    result = engine.submit(request).result(timeout=60)
    assert result.outcome is Outcome.FAILED
    assert "context" in result.reason
