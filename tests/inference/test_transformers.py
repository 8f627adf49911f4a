from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tiny_models = pytest.importorskip("tiny_models", exc_type=ImportError)

import PIL.Image  # noqa: E402

from action100m.config import TransformersConfig  # noqa: E402
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
from action100m.inference.transformers import open_transformers  # noqa: E402

# Libraries of others; nothing that we could write better.
pytestmark = pytest.mark.filterwarnings("ignore")

TEXT = ("qwen3", "gpt_oss")
FILMS = ("smolvlm", "qwen3_vl", "perception_lm")
SIGHTED = (*FILMS, "mllama")
FRAMES = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(8)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: make(folder / name) for name, make in tiny_models.MAKERS.items()}


@contextmanager
def opened(path: Path, **changes: Any) -> Iterator[Engine]:
    values = {"engine": "transformers", "model": str(path), "device": "cpu", "batch": 4}
    config = TransformersConfig.model_validate({**values, "precision": "float32", **changes})
    with open_transformers(config) as engine:
        yield engine


def question(number: str, *parts: Part, schema: Any = None, **sampling: Any) -> Request:
    sampling = {"max_tokens": 16, **sampling}
    return Request(number, (Message("user", parts),), Sampling(**sampling), schema)


@pytest.mark.parametrize("name", [*TEXT, *SIGHTED])
def test_answers_are_those_of_the_library_alone(name: str, checkpoints: dict[str, Path]) -> None:
    """The reference: one conversation through the processor's own template and `generate`."""
    folder = str(checkpoints[name])
    with opened(checkpoints[name]) as engine:
        parts: tuple[Part, ...] = (Text("A man cuts wood. "), Text("Describe it."))
        if name in SIGHTED:
            parts = (Image(FRAMES[0]), Text("Describe this image in detail."))
        result = engine.submit(question("1", *parts)).result(timeout=60)
    if name in TEXT:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        turns = [{"role": "user", "content": "A man cuts wood. Describe it."}]
        inputs = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
    else:
        processor = transformers.AutoProcessor.from_pretrained(folder)
        tokenizer = processor.tokenizer
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
        content = [
            {"type": "image", "image": PIL.Image.fromarray(FRAMES[0])},
            {"type": "text", "text": "Describe this image in detail."},
        ]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    output = model.generate(**inputs, do_sample=False, max_new_tokens=16)
    said = output[0, inputs["input_ids"].shape[1] :]
    assert result.usage.prompt == inputs["input_ids"].shape[1]
    assert result.text == tokenizer.decode(said, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", FILMS)
def test_a_clip_is_shown_with_all_its_frames(name: str, checkpoints: dict[str, Path]) -> None:
    def ask(engine: Engine, frames: list[np.ndarray]) -> tuple[str, int]:
        times = [0.5 * k for k in range(len(frames))]
        request = question("1", Clip(frames, times), Text("Describe this video in detail."))
        result = engine.submit(request).result(timeout=60)
        return result.text, result.usage.prompt

    bright = [np.full((64, 64, 3), 250 - k, np.uint8) for k in range(4)]
    with opened(checkpoints[name]) as engine:
        four, eight, other = (ask(engine, f) for f in (FRAMES[:4], FRAMES, bright))
    assert eight[1] > four[1] == other[1]
    assert four[0] != other[0]


def test_a_model_without_films_sees_a_clip_as_pictures(checkpoints: dict[str, Path]) -> None:
    with opened(checkpoints["mllama"]) as engine:
        film = question("1", Clip(FRAMES[:3], [0, 1, 2]), Text("What is it?"))
        pictures = question("2", *map(Image, FRAMES[:3]), Text("What is it?"))
        one, two = (engine.submit(request).result(timeout=60) for request in (film, pictures))
    assert one.text == two.text


@pytest.mark.parametrize("name", [*TEXT, *SIGHTED])
def test_answers_do_not_depend_on_the_batch(name: str, checkpoints: dict[str, Path]) -> None:
    def questions() -> list[Request]:
        words = ["Describe it.", "Describe this video in detail, and then once more.", "What?"]
        requests = [question(f"{k}", Text(text)) for k, text in enumerate(words)]
        if name in SIGHTED:
            requests += [
                question(f"i{k}", Image(FRAMES[k]), Text(text)) for k, text in enumerate(words)
            ]
        drawn = [
            question(f"d{k}", Text(text), temperature=1.0, seed=k) for k, text in enumerate(words)
        ]
        return requests + drawn

    with opened(checkpoints[name], batch=1) as engine:
        alone = {r.id: engine.submit(r).result(timeout=60).text for r in questions()}
    with opened(checkpoints[name], batch=8) as engine:
        shuffled = random.Random(1).sample(questions(), len(questions()))
        futures = {request.id: engine.submit(request) for request in shuffled}
        together = {number: future.result(timeout=60) for number, future in futures.items()}
    assert {number: result.id for number, result in together.items()} == {n: n for n in alone}
    assert {number: result.text for number, result in together.items()} == alone


@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "smolvlm"])
def test_answers_keep_to_the_schema(name: str, checkpoints: dict[str, Path]) -> None:
    schema = {
        "type": "object",
        "properties": {
            "actor": {"type": "string", "maxLength": 8},
            "kind": {"enum": ["cut", "N/A"]},
        },
        "required": ["actor", "kind"],
        "additionalProperties": False,
    }
    with opened(checkpoints[name]) as engine:
        futures = [
            engine.submit(
                question(
                    f"{k}", Text("JSON?"), schema=schema, max_tokens=120, temperature=1.0, seed=k
                )
            )
            for k in range(6)
        ]
        results = [future.result(timeout=60) for future in futures]
    for result in results:
        assert result.outcome is Outcome.COMPLETE
        answer = json.loads(result.text)
        assert set(answer) == {"actor", "kind"}
        assert len(answer["actor"]) <= 8
    assert len({result.text for result in results}) > 1


def test_counts_tokens_and_tells_its_context(checkpoints: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(checkpoints["qwen3"]))
    texts = ["A man cuts wood.", "", "снег"]
    with opened(checkpoints["qwen3"]) as engine:
        assert engine.count_tokens(texts) == [len(tokenizer.encode(text)) for text in texts]
        assert engine.context_length == 8192
        long = question("long", Text("wood " * 9000))
        result = engine.submit(long).result(timeout=60)
    assert result.outcome is Outcome.FAILED
    assert "do not fit the model's context of 8192" in result.reason


def test_a_request_that_cannot_be_taken_fails_alone(checkpoints: dict[str, Path]) -> None:
    with opened(checkpoints["qwen3"]) as engine:
        bad = engine.submit(question("bad", Image(FRAMES[0]), Text("What?")))
        good = engine.submit(question("good", Text("What?")))
        assert "takes no pictures" in bad.result(timeout=60).reason
        assert good.result(timeout=60).text


def test_a_cancelled_request_ends_and_the_others_go_on(checkpoints: dict[str, Path]) -> None:
    with opened(checkpoints["qwen3"], batch=1) as engine:
        long = engine.submit(question("long", Text("What?"), max_tokens=8000))
        behind = engine.submit(question("behind", Text("And?")))
        time.sleep(0.2)
        assert long.cancel()
        assert behind.result(timeout=20).text


def test_closing_gives_up_what_runs(checkpoints: dict[str, Path]) -> None:
    with opened(checkpoints["qwen3"], batch=1) as engine:
        futures = [
            engine.submit(question(f"{k}", Text("What?"), max_tokens=8000)) for k in range(3)
        ]
        time.sleep(0.2)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=1)


def test_a_device_that_is_not_there_is_an_error(checkpoints: dict[str, Path]) -> None:
    with (
        pytest.raises(ValueError, match="no device 'cuda:63'"),
        opened(checkpoints["qwen3"], device="cuda:63"),
    ):
        pass


def test_a_folder_without_a_chat_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    with pytest.raises(ValueError, match="cannot be loaded as a chat model"), opened(tmp_path):
        pass
