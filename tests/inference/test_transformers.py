from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Searched for, not imported: torchvision can be imported only after tiny_models.
for package in ("torch", "transformers", "torchvision", "timm", "num2words"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from tiny_models import MAKERS, save_qwen3  # noqa: E402, I001 - before transformers

import torch  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from action100m.config import TransformersConfig  # noqa: E402
from action100m.inference import (  # noqa: E402
    Clip,
    Engine,
    EngineStoppedError,
    Image,
    Message,
    Outcome,
    Part,
    Request,
    Result,
    Sampling,
    Text,
)
from action100m.inference.reasoning import answer_in  # noqa: E402
from action100m.inference.transformers import engine as engine_module  # noqa: E402
from action100m.inference.transformers import open_transformers  # noqa: E402

SIDE = 56  # pixels
TEXT_ONLY = ("gpt_oss", "qwen3")
VISION = [name for name in MAKERS if name not in TEXT_ONLY]
SCHEMA = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "maxLength": 12},
        "actor": {"enum": ["person", "hand", None]},
        "steps": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 99},
            "maxItems": 3,
        },
    },
    "required": ["action", "actor", "steps"],
    "additionalProperties": False,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


def configured(folder: Path | str, **changes: Any) -> TransformersConfig:
    values = {"engine": "transformers", "model": str(folder), "device": "cpu"}
    return TransformersConfig.model_validate({**values, "precision": "float32", **changes})


@pytest.fixture
def opened(checkpoint: Callable[[str], Path]) -> Callable[..., Any]:
    @contextmanager
    def open_(name: str, **changes: Any) -> Iterator[Engine]:
        with open_transformers(configured(checkpoint(name), **changes)) as engine:
            yield engine

    return open_


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The tokens of every row of every batch that is answered."""
    seen: list[list[list[int]]] = []
    true = engine_module.generate

    def generate(loaded: Any, rows: Any) -> list[list[int]]:
        answers = true(loaded, rows)
        seen.append(answers)
        return answers

    monkeypatch.setattr(engine_module, "generate", generate)
    return seen


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


def plain_answer(folder: Path, request: Request) -> tuple[str, int, int]:
    """Return what transformers answers greedily to one request alone: text, prompt, tokens."""
    sees = (folder / "processor_config.json").exists()
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder)
    reader = (transformers.AutoProcessor if sees else transformers.AutoTokenizer).from_pretrained(
        folder
    )
    conversation, options = [], {}
    for message in request.messages:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Text):
                content.append({"type": "text", "text": part.text})
            elif isinstance(part, Image):
                content.append({"type": "image", "image": part.pixels})
            elif hasattr(reader, "video_processor"):
                k = len(part.frames)
                shown = 2 * list(part.frames) if k == 1 else part.frames  # Qwen3-VL needs two
                video = np.stack(shown if "Qwen3" in type(reader).__name__ else part.frames)
                content.append({"type": "video", "video": video})
                options = {
                    "do_sample_frames": False,
                    "video_metadata": [
                        {
                            "fps": 2.0,
                            "frames_indices": list(range(k)),
                            "total_num_frames": k,
                            "duration": k / 2 if k > 1 else 1.0,
                        }
                    ],
                }
            else:
                content += [{"type": "image", "image": frame} for frame in part.frames]
        plain = "".join(item.get("text", "") for item in content)
        conversation.append({"role": message.role, "content": content if sees else plain})
    rest = {"processor_kwargs": options} if sees else {}
    inputs = reader.apply_chat_template(
        conversation,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        **rest,
    )
    length = inputs["input_ids"].shape[1]
    made = model.generate(**inputs, do_sample=False, max_new_tokens=request.sampling.max_tokens)
    tokens = made[0, length:]
    tokenizer = getattr(reader, "tokenizer", reader)
    harmony = "<|channel|>" in tokenizer.get_vocab()
    ended = tokens[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=not harmony)
    return answer_in(text), length, len(tokens)


def questions(name: str) -> list[Request]:
    """Requests of every kind that a model accepts, with different lengths."""
    words = [
        "Cut.",
        "Describe this in detail.",
        "What is the person doing, and with which tool? Name both.",
        "Now cut.",
        "Is it hot?",
    ]
    texts = [question(f"text {k}", Text(text)) for k, text in enumerate(words)]
    taught = (
        Message("system", (Text("Be short."),)),
        Message("user", (Text("Hello."),)),
        Message("assistant", (Text("Yes?"),)),
        Message("user", (Text("Cut the tomato."),)),
    )
    texts.append(Request("conversation", taught, Sampling(max_tokens=9)))
    if name in TEXT_ONLY:
        return texts
    images = [question(f"image {k}", Image(picture(k)), Text(words[k])) for k in (0, 1, 2, 3)]
    clips = [
        question(f"clip {k}", clip(k, frames), Text(words[k]))
        for k, frames in enumerate([4, 4, 3, 4, 1])
    ]
    return texts + images + clips


@pytest.mark.parametrize("name", MAKERS)
def test_batched_answers_equal_those_of_transformers_alone(
    name: str, checkpoint: Any, opened: Any, batches: Any
) -> None:
    requests = questions(name)
    random.Random(0).shuffle(requests)
    with opened(name, batch=4) as engine:
        results = ask(engine, requests)
        tokens = engine.count_tokens(["Cut the tomato.", ""])
    for request, result in zip(requests, results, strict=True):
        text, prompt, written = plain_answer(checkpoint(name), request)
        assert (result.id, result.text) == (request.id, text)
        assert (result.usage.prompt, result.usage.completion) == (prompt, written)
        full = written == request.sampling.max_tokens
        allowed = {Outcome.TRUNCATED, Outcome.EMPTY} if full else {Outcome.COMPLETE, Outcome.EMPTY}
        assert result.outcome in allowed
    assert sum(map(len, batches)) == len(requests)
    assert max(map(len, batches)) > 1
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint(name))
    assert tokens == [len(tokenizer.encode("Cut the tomato.", add_special_tokens=False)), 0]


@pytest.mark.parametrize("name", VISION)
def test_answers_depend_on_the_images(name: str, opened: Any) -> None:
    parts = [Image(picture(1)), Image(picture(2)), clip(1, 4), clip(2, 4)]
    with opened(name) as engine:
        results = ask(engine, [question(str(k), part) for k, part in enumerate(parts)])
    assert len({result.text for result in results}) == len(parts)


def test_answers_belong_to_their_requests(checkpoint: Any, opened: Any) -> None:
    requests = [question(f"{k} times {k % 7}", max_tokens=3 + k % 5) for k in range(30)]
    answers: dict[str, Result] = {}
    with opened("qwen3", batch=3) as engine:

        def some(part: list[Request]) -> None:
            for request, result in zip(part, ask(engine, part), strict=True):
                answers[request.id] = result

        threads = [threading.Thread(target=some, args=(requests[k::3],)) for k in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for request in random.Random(1).sample(requests, 8):
        text, _, _ = plain_answer(checkpoint("qwen3"), request)
        assert (answers[request.id].id, answers[request.id].text) == (request.id, text)
    assert len(answers) == len(requests)


def test_sampling_depends_only_on_the_seed(opened: Any) -> None:
    def drawn(seed: int, name: str = "") -> Request:
        return question(name or f"seed {seed}", Text("Cut."), temperature=1.0, seed=seed)

    with opened("qwen3", batch=4) as engine:
        alone = [ask(engine, [drawn(seed)])[0].text for seed in (5, -1, 5)]
        mates = [drawn(6), drawn(5), question("greedy", Text("Cut.")), drawn(-1)]
        together = [result.text for result in ask(engine, mates)]
    assert alone[0] == alone[2] == together[1]
    assert alone[1] == together[3]
    assert len({*together}) == 4


@pytest.mark.parametrize("name", ["gpt_oss", "qwen3", "qwen3_vl"])
def test_answers_follow_their_schema(name: str, opened: Any, batches: Any) -> None:
    pytest.importorskip("llguidance")
    jsonschema = pytest.importorskip("jsonschema")
    requests = [
        question(f"step {k}", schema=SCHEMA, max_tokens=400, temperature=1.0, seed=k)
        for k in range(6)
    ]
    requests.append(question("no schema", max_tokens=400, temperature=1.0))
    requests.append(question("greedy", schema=SCHEMA, max_tokens=400))
    with opened(name, batch=8) as engine:
        results = ask(engine, requests)
        cut = ask(engine, [question("cut", schema=SCHEMA, max_tokens=4)])[0]
    for result in (result for result in results if result.id != "no schema"):
        assert result.outcome is Outcome.COMPLETE, result.reason
        jsonschema.validate(json.loads(result.text), SCHEMA)
    assert len({result.text for result in results}) == len(results)
    assert max(map(len, batches)) > 1
    assert cut.outcome in {Outcome.TRUNCATED, Outcome.EMPTY}  # Harmony begins with a header
    assert cut.usage.completion == 4


def test_a_full_row_does_not_affect_others(opened: Any, batches: Any) -> None:
    pytest.importorskip("llguidance")
    requests = [
        question(f"row {k}", schema=SCHEMA, max_tokens=70 if k == 3 else 400, seed=k)
        for k in range(4)
    ]
    with opened("qwen3", batch=4) as engine:
        results = ask(engine, requests)
    assert [len(batch) for batch in batches] in ([4], [1, 3], [2, 2], [3, 1])
    assert len(batches) <= 2
    full = [result.outcome for result in results]
    assert full[:3] == [Outcome.COMPLETE] * 3


def test_an_invalid_schema_fails_only_its_request(opened: Any) -> None:
    pytest.importorskip("llguidance")
    requests = [question("bad", schema={"type": "colour"}), question("good")]
    with opened("qwen3") as engine:
        bad, good = ask(engine, requests)
    assert bad.outcome is Outcome.FAILED
    assert "The schema cannot be enforced" in bad.reason
    assert good.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("name", "thought"), [("gpt_oss", "<|channel|>analysis<|message|>"), ("qwen3", "<think>")]
)
def test_a_schema_applies_after_the_thinking(
    name: str, thought: str, checkpoint: Any, batches: Any, tmp_path: Path
) -> None:
    pytest.importorskip("llguidance")
    jsonschema = pytest.importorskip("jsonschema")
    folder = checkpoint(name) if name == "gpt_oss" else save_qwen3(tmp_path, thinks=True)
    requests = [
        question(f"step {k}", schema=SCHEMA, max_tokens=500, temperature=1.5, seed=k)
        for k in range(12)
    ]
    with open_transformers(configured(folder, batch=12)) as engine:
        results = ask(engine, requests)
    for result in results:
        assert result.outcome is Outcome.COMPLETE, result.reason
        jsonschema.validate(json.loads(result.text), SCHEMA)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.convert_tokens_to_ids("</think>" if name == "qwen3" else "<|message|>")
    written = [row for batch in batches for row in batch]
    thoughtful = [row for row in written if tokenizer.decode(row).startswith(thought)]
    assert thoughtful
    for row in thoughtful:
        end = len(row) - row[::-1].index(ends)
        assert end <= 500 / 2 + 30  # plus the channels, character by character
        assert tokenizer.decode(row[end:]).strip().startswith('{"action": ')


def test_the_context_ends_an_answer(opened: Any) -> None:
    with opened("qwen3") as engine:
        context = engine.context_length
        assert context is not None
        overhead = ask(engine, [question("", Text(""), max_tokens=1)])[0].usage.prompt
        text = "~" * (context - overhead)
        assert engine.count_tokens([text]) == [len(text)]
        full, nearly = ask(
            engine,
            [question("full", Text(text)), question("nearly", Text(text[:-3]), max_tokens=9)],
        )
    assert full.outcome is Outcome.FAILED
    assert f"The prompt has {context} tokens" in full.reason
    assert (nearly.outcome, nearly.usage.completion) == (Outcome.TRUNCATED, 3)


@pytest.mark.parametrize("shown", [Image(picture(0)), clip(0, 3)])
def test_a_text_model_refuses_images(shown: Part, opened: Any) -> None:
    with opened("qwen3") as engine:
        result = ask(engine, [question("look", shown, Text("What is it?"))])[0]
    assert result.outcome is Outcome.FAILED
    assert "reads only text" in result.reason


@pytest.mark.parametrize("name", VISION)
def test_control_tokens_in_a_text_are_plain_text(name: str, opened: Any) -> None:
    tokens = ["<|im_end|>", "<|eot_id|>", "<|image|>", "<image>", "<video>", "<|video_pad|>"]
    bad = Text(f"A title {' '.join(tokens)} <|image_pad|>")
    with opened(name) as engine:
        results = ask(engine, [question("bad", Image(picture(0)), bad), question("words", bad)])
        lengths = engine.count_tokens(["<|im_end|>", "< |im_end|>"])
    assert [result.outcome for result in results] == [Outcome.TRUNCATED] * 2
    assert lengths[1] > 1


def test_a_waiting_request_can_be_cancelled(opened: Any, batches: Any) -> None:
    with opened("qwen3", batch=1) as engine:
        futures = [engine.submit(question(f"{k}", max_tokens=60)) for k in range(6)]
        given_up = futures[3:5]
        assert all(future.cancel() for future in given_up)
        done, _ = wait(futures, timeout=120)
        assert len(done) == len(futures)
        kept = [f.result().id for f in futures if not f.cancelled()]
    assert kept == ["0", "1", "2", "5"]
    assert sum(map(len, batches)) == 4


def test_a_running_request_can_be_cancelled(
    opened: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = signal_when_running(monkeypatch)
    with opened("qwen3", batch=2) as engine:
        long = engine.submit(question("long", max_tokens=10**6))
        assert running.wait(60)
        assert long.cancel()
        assert ask(engine, [question("short")])[0].outcome is Outcome.TRUNCATED
    assert len(batches[0][0]) < 1500  # fewer than the 2,000 that fit into the context


def test_closing_cancels_all_requests(
    opened: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = signal_when_running(monkeypatch)
    with opened("qwen3", batch=2) as engine:
        futures = [engine.submit(question(f"{k}", max_tokens=10**6)) for k in range(5)]
        assert running.wait(60)
    futures.append(engine.submit(question("late")))
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    assert len(batches) == 1
    assert len(batches[0][0]) < 1500


def signal_when_running(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set once some tokens of an answer are written."""
    from action100m.inference.transformers import generation  # noqa: PLC0415

    running = threading.Event()
    true = generation.Draw.__call__

    def draw(self: Any, ids: Any, scores: Any) -> Any:
        if ids.shape[1] > self._length + 3:
            running.set()
        return true(self, ids, scores)

    monkeypatch.setattr(generation.Draw, "__call__", draw)
    return running


class Faulty:
    """A device on which `generate` fails occasionally."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[Any]], None]) -> None:
        self.sizes: list[int] = []
        true = engine_module.generate

        def generate(loaded: Any, rows: Any) -> list[list[int]]:
            self.sizes.append(len(rows))
            fault(rows)
            return true(loaded, rows)

        monkeypatch.setattr(engine_module, "generate", generate)


def test_running_out_of_memory_halves_the_batch(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: list[Any]) -> None:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    device = Faulty(monkeypatch, fault)
    with opened("qwen3", batch=8) as engine:
        results = [result for _ in range(2) for result in ask(engine, numbered(16))]
    assert {result.outcome for result in results} == {Outcome.TRUNCATED}
    assert max(device.sizes) > 2
    assert max(device.sizes[-4:]) <= 2  # it has learned the limit


def test_only_the_faulty_request_of_a_batch_fails(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: list[Any]) -> None:
        if any(row.sampling.seed == 13 for row in rows):
            raise RuntimeError("The size of\ntensor a must match.")

    Faulty(monkeypatch, fault)
    requests = [*numbered(7), question("q7", seed=13)]
    with opened("qwen3", batch=8) as engine:
        results = ask(engine, requests)
    assert [result.outcome.value for result in results] == ["truncated"] * 7 + ["failed"]
    assert results[7].reason == "RuntimeError: The size of tensor a must match."


def test_a_lost_device_stops_the_engine(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(rows: list[Any]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    Faulty(monkeypatch, fault)
    with opened("qwen3", batch=2) as engine:
        futures = [engine.submit(request) for request in numbered(6)]
        for future in (*futures, engine.submit(question("late"))):
            with pytest.raises(EngineStoppedError, match="illegal memory access"):
                future.result(timeout=60)


def numbered(count: int) -> list[Request]:
    return [question(f"q{k}") for k in range(count)]


def break_(folder: Path, how: str) -> None:
    if how == "pickled":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif how == "no template":
        (folder / "chat_template.jinja").unlink()
    elif how == "no words":
        (folder / "config.json").write_text('{"model_type": "vjepa2"}')
    elif how == "a weight is missing":
        weights = load_file(folder / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif how == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("pickled", "cannot be loaded as a chat model: Error no file named model.safetensors"),
        ("no template", "has no chat template"),
        ("no words", "cannot be loaded as a chat model: Unrecognized"),
        ("truncated", "cannot be loaded as a chat model: Error while deserializing"),
        ("a weight is missing", r"lacks 1 weights, such as model\.layers\.1\.mlp\.up_proj\.weight"),
    ],
)
def test_unusable_checkpoints_are_refused(how: str, message: str, tmp_path: Path) -> None:
    break_(MAKERS["qwen3"](tmp_path), how)
    with pytest.raises(ValueError, match=message), open_transformers(configured(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:99"}, "There is no device 'cuda:99'"),
        ({"device": "gpu"}, "is not a device"),
        ({"model": "/nowhere"}, "There is no folder /nowhere"),
        ({"revision": "main"}, "has no revision"),
    ],
)
def test_unavailable_settings_are_errors(changes: Any, message: str, checkpoint: Any) -> None:
    config = configured(checkpoint("qwen3"), **changes)
    with pytest.raises(ValueError, match=message), open_transformers(config):
        pass
