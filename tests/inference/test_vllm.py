"""Real vLLM. Opt-in: `pytest -m vllm` if vLLM is installed, with or without a GPU."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import action100m
from action100m.config import Config, TransformersConfig, VllmConfig
from action100m.inference import Clip, Image, Outcome, Text
from action100m.runs.status import describe_run
from ask_transformers import question
from synthetic import write_video

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

FRAMES = [np.full((64, 64, 3), 30 * k, np.uint8) for k in range(4)]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cut", "N/A"]}},
    "required": ["kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vllm(request: pytest.FixtureRequest) -> None:
    if "vllm" not in request.config.getoption("markexpr"):
        pytest.skip("Starting vLLM takes a minute: ask for it by `pytest -m vllm`.")
    pytest.importorskip("vllm")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module", params=["qwen3", "qwen3_vl"])
def opened(
    request: pytest.FixtureRequest, vllm: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, Any]]:
    import tiny_models  # noqa: PLC0415
    from action100m.inference.vllm import open_vllm  # noqa: PLC0415

    path = tiny_models.MAKERS[request.param](tmp_path_factory.mktemp("checkpoint"))
    config = VllmConfig(
        engine="vllm", model=str(path), precision="float32", sequences=16, context_length=2048
    )
    with open_vllm(config, pictures=4) as engine:
        yield request.param, path, engine


def test_text_equals_that_of_transformers(opened: Any) -> None:
    from action100m.inference.transformers import open_transformers  # noqa: PLC0415

    name, path, engine = opened
    words = Text("A man cuts wood. Describe it.")
    requests = [question("text", words)]
    if name == "qwen3_vl":
        # Only a few tokens: with more, rounding changes near ties of a random model.
        requests.append(question("image", Image(FRAMES[2]), words, max_tokens=4))
    values = {"model": str(path), "device": "cpu", "precision": "float32"}
    config = TransformersConfig.model_validate({"engine": "transformers", **values})
    with open_transformers(config) as reference:
        for request in requests:
            theirs = reference.submit(request).result(timeout=60)
            ours = engine.submit(request).result(timeout=60)
            # vLLM withholds the bytes of a character that the limit splits.
            assert ours.text.rstrip("\ufffd") == theirs.text.rstrip("\ufffd")
            assert (ours.outcome, ours.usage.prompt) == (theirs.outcome, theirs.usage.prompt)


def test_two_hundred_answers_keep_their_ids(opened: Any) -> None:

    *_, engine = opened
    shared = "A man cuts a long piece of wood with a saw on a bench. " * 8
    requests = [
        question(f"{k}", Text(f"{shared} {k % 20}"), max_tokens=1 + k % 17) for k in range(200)
    ]
    random.Random(0).shuffle(requests)
    futures = [engine.submit(request) for request in requests]
    results = [future.result(timeout=120) for future in futures]
    assert [result.id for result in results] == [request.id for request in requests]
    assert all(
        result.usage.completion <= request.sampling.max_tokens
        for request, result in zip(requests, results, strict=True)
    )
    assert sum(result.usage.cached for result in results) > 1000


def test_schema_clips_and_failures(opened: Any) -> None:

    name, _, engine = opened
    asked = [
        engine.submit(
            question(f"{k}", Text("JSON?"), schema=SCHEMA, max_tokens=40, temperature=1.0, seed=k)
        )
        for k in range(8)
    ]
    for future in asked:
        assert set(json.loads(future.result(timeout=60).text)) == {"kind"}
    long = engine.submit(question("long", Text("wood " * 5000))).result(timeout=60)
    assert (long.outcome, long.lasting) == (Outcome.FAILED, True)
    assert "2048" in long.reason
    for frames in (4, 3, 1):
        clip = Clip(FRAMES[:frames], [0.5 * k for k in range(frames)])
        asked = question(f"clip of {frames}", clip, Text("What is it?"))
        shown = engine.submit(asked).result(timeout=60)
        if name == "qwen3_vl":
            assert shown.text, shown.reason
        else:
            assert "does not accept pictures" in shown.reason


def test_a_cancelled_request_ends(opened: Any) -> None:

    *_, engine = opened
    long = engine.submit(question("never", Text("What?"), max_tokens=1900))
    assert long.cancel()
    assert engine.submit(question("next", Text("And?"))).result(timeout=60).usage.completion


def test_a_model_without_clips_sees_all_frames_of_a_segment(
    vllm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_models  # noqa: PLC0415
    from action100m.inference import vllm as engine  # noqa: PLC0415

    opened = engine.open_processor

    def without_clips(found: Any) -> Any:
        inputs = opened(found)
        inputs.template.takes_clips = False
        return inputs

    monkeypatch.setattr(engine, "open_processor", without_clips)
    path = tiny_models.MAKERS["qwen3_vl"](tmp_path / "checkpoint")
    model = {"engine": "vllm", "model": str(path), "precision": "float32", "sequences": 4}
    captions = {"frames": 40, "segments": {"model": model, "max_tokens": 8}, "max_failed": 1.0}
    config = Config.model_validate({"video": {"stride": 1}, "captioning": captions})
    video = write_video(tmp_path / "a.mp4", [1.0, 1.0])
    assert action100m.run(video, tmp_path / "run", config).exit_code == 0
    status = "\n".join(describe_run(tmp_path / "run"))
    assert "answers: " in status
    assert "image" not in status  # vLLM refuses more pictures than it was told to expect


def test_nothing_is_left_running(vllm: None) -> None:
    """Run last: the module's engines are closed one after another before it."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert listing.stdout.count("EngineCore") <= 1
