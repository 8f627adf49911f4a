from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from action100m.aggregation.part import read_effort
from action100m.aggregation.prompts import Captioned
from action100m.aggregation.stage import (
    AnnotationsMissingError,
    VideoAggregator,
    aggregate_identity,
    annotated_nodes,
)
from action100m.config import AggregationConfig
from action100m.errors import ConfigError
from action100m.inference import EngineStoppedError, Feed, Outcome, Request, Result
from action100m.inference.answers import Answer, final_answers, texts
from action100m.tree import Tree, cut, ward
from engines import EchoEngine, complete

MODEL = {"engine": "openai", "model": "echo", "urls": ["http://localhost:1/v1"]}
ROWS = np.random.default_rng(5).standard_normal((160, 8)).cumsum(0)
TREE = cut(ward(ROWS), np.arange(161) / 4)
NODES = annotated_nodes(TREE)
NUMBERS = range(len(TREE))
VIDEO = Captioned(
    TREE, [f"caption {k}" for k in NUMBERS], [f"act {k}" for k in NUMBERS], [None for _ in NUMBERS]
)


def words(request: Request, message: int) -> str:
    (part,) = request.messages[message].parts
    return str(part.text)  # type: ignore[union-attr]


def good(request: Request) -> Result:
    """Answer with the segment and the round."""
    rounds = sum(message.role == "assistant" for message in request.messages)
    fields = {"brief": f"{words(request, 1).splitlines()[-1]} {rounds}", "detailed": "It is seen."}
    answer = {"summary": fields, "action": {**fields, "actor": "a man"}}
    return complete(request, json.dumps(answer))


def aggregate(
    answer: Callable[[Request], Result | BaseException],
    journal: Path,
    known: dict[str, Answer] | None = None,
    **changes: object,
) -> tuple[pa.Table, EchoEngine]:
    config = AggregationConfig.model_validate({"model": MODEL, **changes})
    engine = EchoEngine(answer)
    aggregator = VideoAggregator(config, Feed(engine))
    part = aggregator.aggregate("v", VIDEO, lambda seconds, whole: None, journal, known or {})
    return part, engine


def briefs(part: pa.Table) -> dict[int, str | None]:
    found = texts(part, "gpt", len(TREE)).to_pylist()
    return {
        node: json.loads(found[node] or "")["summary"]["brief"] if found[node] else None
        for node in NODES
    }


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_each_segment_gets_its_own_last_round(rounds: int, tmp_path: Path) -> None:
    part, engine = aggregate(good, tmp_path, rounds=rounds)
    for node, brief in briefs(part).items():
        times = f"{TREE.start[node]:.1f}s-{TREE.end[node]:.1f}s"
        assert brief == f"Annotate the last of these segments, {times}. {rounds}"
    assert len(engine.requests) == (rounds + 1) * len(NODES)


def test_each_round_continues_the_conversation(tmp_path: Path) -> None:
    _, engine = aggregate(good, tmp_path)
    conversations = {request.messages for request in engine.requests}
    assert len(conversations) == 4 * len(NODES)
    assert all(messages[:-2] in conversations for messages in conversations if len(messages) > 2)


def test_an_unusable_answer_is_shown_to_the_model(tmp_path: Path) -> None:
    def answer(request: Request) -> Result:
        if words(request, -1).startswith("This answer cannot be used"):
            assert "Field required" in words(request, -1)
            return good(request)
        return complete(request, '{"summary": {}}')

    part, _ = aggregate(answer, tmp_path, rounds=1)
    assert all(briefs(part).values())


def test_the_last_valid_round_is_kept(tmp_path: Path) -> None:
    def answer(request: Request) -> Result:
        return good(request) if len(request.messages) == 2 else complete(request, "Sorry!")

    part, _ = aggregate(answer, tmp_path)
    assert all(brief and brief.endswith(" 0") for brief in briefs(part).values())
    reasons = {row["reason"] for row in part.to_pylist() if row["field"] == "gpt"}
    assert reasons == {"It holds no JSON object."}


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.EMPTY, Outcome.FAILED])
def test_without_a_valid_round_the_result_is_null_with_a_reason(
    outcome: Outcome, tmp_path: Path
) -> None:
    def answer(request: Request) -> Result:
        return Result(request.id, outcome, reason="Not today.")

    part, _ = aggregate(answer, tmp_path, max_failed=1.0)
    assert not any(briefs(part).values())
    assert {row["reason"] for row in part.to_pylist()} == {"Not today."}
    with pytest.raises(AnnotationsMissingError, match=r"annotations are missing.*Not today"):
        aggregate(answer, tmp_path / "again")


def test_a_truncated_answer_is_requested_again(tmp_path: Path) -> None:
    def answer(request: Request) -> Result:
        if len(request.messages) == 2:
            return Result(request.id, Outcome.TRUNCATED, '{"summ', "The token limit cut it off.")
        return good(request)

    part, _ = aggregate(answer, tmp_path, rounds=0)
    assert all(briefs(part).values())


def test_a_context_too_small_for_a_prompt_is_refused() -> None:
    engine = EchoEngine(good)
    engine.context_length = 8000  # type: ignore[assignment]
    config = AggregationConfig.model_validate({"model": MODEL})
    with pytest.raises(ConfigError, match=r"lower aggregation\.max_tokens \(now 4096\)"):
        VideoAggregator(config, Feed(engine))


@pytest.mark.parametrize("rounds", [0, 1])
def test_there_is_room_for_a_correction(rounds: int, tmp_path: Path) -> None:
    """With four characters per token, and answers as long as assumed when counting."""
    context, most = 12_000, 4096
    asked: list[int] = []

    def answer(request: Request) -> Result:
        asked.append(sum(len(words(request, k)) for k in range(len(request.messages))) // 4)
        first = len(request.messages) == 2
        return complete(request, json.dumps({"summary": "x" * 1900})) if first else good(request)

    engine = EchoEngine(answer)
    engine.context_length = context  # type: ignore[assignment]
    engine.count_tokens = lambda texts: [len(text) // 4 + 1 for text in texts]  # type: ignore[method-assign]
    long = Captioned(
        TREE, [f"caption {k} " * 60 for k in NUMBERS], [None] * len(TREE), [None] * len(TREE)
    )
    config = AggregationConfig.model_validate({"model": MODEL, "rounds": rounds})
    VideoAggregator(config, Feed(engine)).aggregate("v", long, lambda *_: None, tmp_path, {})
    assert max(asked) + most <= context


@pytest.mark.parametrize("name", ["context_length", "tokenizer"])
def test_settings_that_affect_prompts_affect_the_identity(name: str) -> None:
    def identity(value: object) -> dict[str, object]:
        model = {**MODEL, name: value}
        return aggregate_identity(AggregationConfig.model_validate({"model": model}))

    values = [6000, 20_000] if name == "context_length" else ["one", "other"]
    assert identity(values[0]) != identity(values[1])


def test_an_interrupted_video_resumes(tmp_path: Path) -> None:
    whole, engine = aggregate(good, tmp_path / "whole")
    left = [20]

    def stop_later(request: Request) -> Result | BaseException:
        left[0] -= 1
        return good(request) if left[0] >= 0 else EngineStoppedError("No server is up.")

    with pytest.raises(EngineStoppedError):
        aggregate(stop_later, tmp_path / "journal")
    again, rest = aggregate(good, tmp_path / "journal")
    assert again.equals(whole)
    assert len(engine.requests) - 20 <= len(rest.requests) < len(engine.requests)


def test_rounds_are_kept_on_request(tmp_path: Path) -> None:
    part, _ = aggregate(good, tmp_path, keep_rounds=True)
    for number in range(4):
        kept = texts(part, f"gpt.{number}", len(TREE)).to_pylist()
        assert all(kept[node] for node in NODES)
    part, _ = aggregate(good, tmp_path / "b")
    assert not any(texts(part, "gpt.0", len(TREE)).to_pylist())
    assert sum(part["prompt"].to_pylist()) == 10 * 4 * len(NODES)


@pytest.mark.parametrize("kept", [True, False])
def test_more_rounds_request_only_missing_answers(kept: bool, tmp_path: Path) -> None:
    part, first = aggregate(good, tmp_path / "a", rounds=1, keep_rounds=kept)
    more, engine = aggregate(good, tmp_path / "b", final_answers(part), rounds=2)
    assert all(brief and brief.endswith(" 2") for brief in briefs(more).values())
    assert len(engine.requests) == (3 * len(NODES) - len(first.requests) * kept)


def test_a_permanently_failed_round_keeps_the_last_valid_one(tmp_path: Path) -> None:
    def too_long(request: Request) -> Result:
        if len(request.messages) == 2:
            return good(request)
        return Result(request.id, Outcome.FAILED, reason="It is too long.", lasting=True)

    part, engine = aggregate(too_long, tmp_path, rounds=1)
    assert all(brief and brief.endswith(" 0") for brief in briefs(part).values())
    assert len(engine.requests) == 2 * len(NODES)  # no request is superfluous
    assert read_effort(part).rounds == 0


def test_unanswered_rounds_are_requested_again(tmp_path: Path) -> None:
    def only_drafts(request: Request) -> Result:
        if len(request.messages) == 2:
            return good(request)
        return Result(request.id, Outcome.FAILED, reason="No answer.")

    with pytest.raises(AnnotationsMissingError, match="missing or unrefined"):
        aggregate(only_drafts, tmp_path, rounds=1)
    done, _ = aggregate(only_drafts, tmp_path, rounds=1, max_failed=1.0)
    assert (read_effort(done).annotated, read_effort(done).unrefined) == (len(NODES), len(NODES))
    part, engine = aggregate(good, tmp_path, rounds=1)
    assert {len(request.messages) for request in engine.requests} == {4}
    assert (read_effort(part).rounds, read_effort(part).unrefined) == (len(NODES), 0)


@pytest.mark.parametrize(
    ("start", "end", "annotated"),
    [
        (10.006, 14.0049, False),
        (57.15298, 61.14586, True),
        (10.0, 14.0, True),
        (10.0, 13.99, False),
    ],
)
def test_segments_stored_as_four_seconds_are_annotated(
    start: float, end: float, annotated: bool
) -> None:
    times = [0.0, start, start], [70.0, end, end - 1]
    tree = Tree(*map(np.array, times), np.array([-1, 0, 1]), np.array([0, 1, 2]))
    assert annotated_nodes(tree) == [0, 1][: 1 + annotated]
