from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Searched for, not imported: torchvision can be imported only after tiny_models.
for package in ("torch", "transformers", "torchvision", "timm", "num2words"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from tiny_models import save_qwen3  # noqa: E402, I001 - before transformers

import transformers  # noqa: E402

from action100m.inference import Outcome  # noqa: E402
from action100m.inference.transformers import open_transformers  # noqa: E402
from ask_transformers import ask, configured, question  # noqa: E402

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
