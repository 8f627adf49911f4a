from __future__ import annotations

import random
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Searched for, not imported: torchvision can be imported only after tiny_models.
for package in ("torch", "transformers", "torchvision", "timm", "num2words"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from tiny_models import MAKERS  # noqa: E402, I001 - before transformers

import transformers  # noqa: E402

from action100m.inference import (  # noqa: E402
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
from ask_transformers import ask, clip, picture, question  # noqa: E402

TEXT_ONLY = ("gpt_oss", "qwen3")
VISION = [name for name in MAKERS if name not in TEXT_ONLY]


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
