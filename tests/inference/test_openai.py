from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from action100m.inference import (
    Clip,
    EngineStoppedError,
    Message,
    Outcome,
    Request,
    Sampling,
    Text,
    Usage,
)
from action100m.inference.answers import Answer, to_table
from action100m.inference.openai import open_openai
from ask_openai import ask, configured, echo, late, question
from servers import Call, serve

# As from Mistral's reasoning models.
THOUGHT_AND_SAID = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "yes"},
]


def every_third(bad: Callable[[Call], None]) -> Callable[[Call], None]:
    return lambda call: bad(call) if call.number % 3 == 2 else echo(call)


def at_first(bad: Callable[[Call], None]) -> Callable[[Call], None]:
    seen: set[str] = set()

    def answer(call: Call) -> None:
        echo(call) if call.text in seen else bad(call)
        seen.add(call.text)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        late,
        every_third(lambda call: call.reply(500, "<html>Internal error</html>", "text/html")),
        every_third(lambda call: call.drop()),
        at_first(lambda call: call.reply(200, '{"choices": [{"mess')),
        at_first(lambda call: call.reply(200, "<html>Welcome</html>", "text/html")),
        at_first(lambda call: call.reply(200, '{"choices": []}')),
        every_third(lambda call: call.reply(429, "{}", Retry_After="0.05")),
        every_third(lambda call: call.reply(503, '{"error": {"message": null}}')),
        every_third(lambda call: call.reply(503, '{"error": {"message": [{}]}}')),
        at_first(lambda call: call.reply(200, "[" * 100_000)),
        every_third(lambda call: call.complete("half an", finish_reason="abort")),
        every_third(lambda call: call.reply(408, "{}")),
        every_third(lambda call: call.reply(409, "{}")),
        every_third(lambda call: call.reply(425, "{}")),
        every_third(lambda call: call.reply(200, '{"error": {"code": 502, "message": "Down."}}')),
    ],
    ids=[
        "shuffled",
        "500",
        "dropped",
        "torn",
        "html",
        "no choice",
        "429",
        "no message",
        "odd message",
        "deep",
        "aborted",
        "408",
        "409",
        "425",
        "502 as 200",
    ],
)
def test_answers_are_neither_lost_nor_mixed_up(answer: Callable[[Call], None]) -> None:
    results = ask(answer, 40)
    for k, result in enumerate(results):
        assert (result.id, result.outcome) == (f"question {k}", Outcome.COMPLETE)
        assert result.text == f"answer to question {k}"
        assert (result.usage.prompt, result.usage.cached, result.usage.completion) == (7, 4, 2)


@pytest.mark.parametrize("bad", [Call.hang, Call.trickle])
def test_an_answer_that_never_ends_is_retried(bad: Callable[[Call], None]) -> None:
    results = ask(lambda call: bad(call) if call.number < 2 else echo(call), 4, timeout_seconds=0.5)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 4
    assert sum(result.usage.retries for result in results) == 2


def test_a_busy_server_is_waited_for() -> None:
    ready = time.monotonic() + 4

    def answer(call: Call) -> None:
        if time.monotonic() < ready:
            call.reply(429, "{}", Retry_After="0")
        else:
            echo(call)

    with serve(answer) as (url, calls), open_openai(configured(url, attempts=1)) as engine:
        futures = [engine.submit(question(f"question {k}")) for k in range(5)]
        assert {f.result(timeout=60).outcome for f in futures} == {Outcome.COMPLETE}
    assert len(calls) < 100


def test_patience_starts_when_a_server_reports_that_it_is_busy() -> None:
    def answer(call: Call) -> None:
        if call.number == 0:
            call.hang()
        elif call.number == 1:
            call.reply(429, "{}")
        else:
            echo(call)

    with (
        serve(answer) as (url, calls),
        open_openai(configured(url, timeout_seconds=2.0), patience=1.5) as engine,
    ):
        assert engine.submit(question("x")).result(timeout=30).outcome is Outcome.COMPLETE
    assert len(calls) == 3


def test_groups_move_from_a_busy_server_to_a_free_one() -> None:
    with ExitStack() as stack:
        busy = stack.enter_context(serve(lambda call: call.reply(429, "{}")))
        free = stack.enter_context(serve(echo))
        config = configured(busy[0], free[0], attempts=1)
        engine = stack.enter_context(open_openai(config, patience=3.0))
        futures = [engine.submit(question("x", group=f"group {k}")) for k in range(20)]
        assert {f.result(timeout=30).outcome for f in futures} == {Outcome.COMPLETE}


def test_servers_that_stay_busy_stop_the_engine_and_fail_nothing() -> None:
    def answer(call: Call) -> None:
        call.reply(429, "{}")

    with serve(answer) as (url, _), open_openai(configured(url), patience=1.0) as engine:
        futures = [engine.submit(question(f"question {k}")) for k in range(3)]
        for future in futures:
            with pytest.raises(EngineStoppedError, match="answered 429"):
                future.result(timeout=30)


def test_only_a_request_without_room_on_the_server_fails() -> None:
    def answer(call: Call) -> None:
        call.reply(429, "{}") if call.text == "too large" else echo(call)

    with serve(answer) as (url, _), open_openai(configured(url), patience=1.0) as engine:
        large = engine.submit(question("too large"))
        while not large.done():
            assert engine.submit(question("small")).result(timeout=30).text == "answer to small"
        assert large.result().outcome is Outcome.FAILED


@pytest.mark.parametrize("tokens", ["9223372036854775808", "1e30", "-5", "true"])
def test_implausible_token_counts_are_tolerated(tokens: str) -> None:
    usage = f'"usage": {{"prompt_tokens": {tokens}}}'
    odd = f'{{"choices": [{{"message": {{"content": "x"}}}}], {usage}}}'
    (result,) = ask(lambda call: call.reply(200, odd), 1)
    assert result.outcome is Outcome.COMPLETE
    to_table([("plm_caption", 0, Answer.of("key", result, Usage()))])


def test_the_context_length_is_the_smallest_of_all_servers() -> None:
    lengths = [4096, 32768, None, "8192"]
    for turned in (lengths, lengths[::-1]):
        with ExitStack() as stack:
            urls = [stack.enter_context(serve(echo, context=length))[0] for length in turned]
            engine = stack.enter_context(open_openai(configured(*urls)))
            assert engine.context_length == 4096


def test_a_server_that_is_down_from_the_start_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with (
        serve(echo) as (url, _),
        open_openai(configured(url, "http://127.0.0.1:9/v1")) as engine,
    ):
        assert engine.submit(question("x")).result(timeout=30).outcome is Outcome.COMPLETE
    assert "http://127.0.0.1:9/v1 does not answer" in caplog.text


def test_invalid_addresses_and_redirects_are_errors() -> None:
    with (
        pytest.raises(ValueError, match="is not a valid address"),
        open_openai(configured("http://[::1/v1")),
    ):
        pass
    with pytest.raises(ValueError, match="urls"):
        configured("localhost:8000/v1")

    def answer(call: Call) -> None:
        call.reply(308, "", Location="/elsewhere")

    with (
        serve(answer) as (url, _),
        open_openai(configured(url)) as engine,
        pytest.raises(EngineStoppedError, match="redirects to another address"),
    ):
        engine.submit(question("x")).result(timeout=30)


def test_a_request_that_keeps_failing_fails_with_the_reason() -> None:
    def answer(call: Call) -> None:
        if call.text == "question 1":
            call.reply(500, json.dumps({"error": {"message": "CUDA\nout of memory"}}))
        else:
            echo(call)

    results = ask(answer, 3, attempts=2)
    assert [result.outcome.value for result in results] == ["complete", "failed", "complete"]
    assert "answered 500: CUDA out of memory" in results[1].reason
    assert results[1].usage.retries == 1


@pytest.mark.parametrize(
    ("reply", "outcome", "text", "reason"),
    [
        ({"text": "half an ans", "finish_reason": "length"}, "truncated", "half an ans", "limit"),
        ({"text": "  "}, "empty", "", "nothing"),
        ({"text": None}, "empty", "", "nothing"),
        ({"text": "", "finish_reason": "length"}, "empty", "", "before the token limit"),
        ({"text": None, "message": {"refusal": "No."}}, "refused", "", "refused to answer"),
        ({"text": "x", "finish_reason": "content_filter"}, "refused", "", "filter"),
        ({"text": "<think>hm</think>yes"}, "complete", "yes", ""),
        ({"text": None, "message": {"content": THOUGHT_AND_SAID}}, "complete", "yes", ""),
    ],
)
def test_outcomes(reply: dict[str, Any], outcome: str, text: str, reason: str) -> None:
    (result,) = ask(lambda call: call.complete(**reply), 1)
    assert (result.outcome.value, result.text) == (outcome, text)
    assert reason in result.reason


@pytest.mark.parametrize(
    "odd",
    [
        '{"choices": [{"message": {"content": [{"type": "text", "text": 7}]}}]}',
        '{"choices": [{"message": {"content": 7}}]}',
        '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e999}}',
        '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}',
        '{"choices": {"message": null}}',
        "[]",
        "null",
    ],
)
def test_odd_answers_fail_with_a_reason(odd: str) -> None:
    with (
        serve(lambda call: call.reply(200, odd)) as (url, calls),
        open_openai(configured(url)) as engine,
    ):
        result = engine.submit(question("x")).result(timeout=60)
    assert result.outcome is Outcome.FAILED
    assert f"The server's answer is not a chat completion: {odd}" in result.reason
    assert len(calls) == 2  # as each may have to be paid for


def test_half_a_surrogate_pair_can_be_kept() -> None:
    (result,) = ask(lambda call: call.complete("wood \ud83e and a saw"), 1)
    answer = Answer.of("key", result, Usage())
    assert to_table([("plm_caption", 0, answer)])["text"].to_pylist() == ["wood ? and a saw"]


def test_a_prompt_that_is_too_long_is_not_retried() -> None:
    words = "This model's maximum context length is 4096 tokens."
    with (
        serve(lambda call: call.reply(400, json.dumps({"error": {"message": words}}))) as (
            url,
            calls,
        ),
        open_openai(configured(url)) as engine,
    ):
        result = engine.submit(question("long")).result(timeout=20)
    assert result.outcome is Outcome.FAILED
    assert words in result.reason
    assert len(calls) == 1


def test_a_server_that_renamed_the_token_limit_is_sent_the_new_name() -> None:
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."

    def answer(call: Call) -> None:
        if "max_tokens" in call.body:
            call.reply(400, json.dumps({"error": {"message": words}}))
        else:
            call.complete(f"{call.body['max_completion_tokens']} {call.text}")

    text = 'Set "max_tokens": 5.'
    with serve(answer) as (url, calls), open_openai(configured(url)) as engine:
        for number in (2, 3):
            asked = replace(question(text), sampling=Sampling(77))
            assert engine.submit(asked).result(timeout=20).text == f"77 {text}"
            assert len(calls) == number


@pytest.mark.parametrize("dated", [False, True])
def test_a_server_is_left_alone_as_long_as_it_asks(dated: bool) -> None:
    ready = int(time.time()) + 4

    def answer(call: Call) -> None:
        left = ready - time.time()
        wait = formatdate(ready, usegmt=True) if dated else str(left)
        call.reply(429, "{}", Retry_After=wait) if left > 0 else echo(call)

    with serve(answer) as (url, calls), open_openai(configured(url)) as engine:
        assert engine.submit(question("x")).result(timeout=60).outcome is Outcome.COMPLETE
    assert len(calls) == 2


def test_images_schema_and_sampling_are_sent() -> None:
    ramp = np.linspace(0, 255, 32, dtype=np.uint8)
    frames = [np.stack([np.full((32, 32), 80 * k), *np.meshgrid(ramp, ramp)], -1) for k in range(3)]
    frames = [frame.astype(np.uint8) for frame in frames]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    request = Request(
        "1",
        (
            Message("system", (Text("Be brief."),)),
            Message("user", (Clip(frames, [0.0, 0.5, 1.0]), Text("What is it?"))),
        ),
        Sampling(50, 0.5, 7, "low"),
        schema,
    )
    with serve(echo) as (url, calls), open_openai(configured(url)) as engine:
        engine.submit(request).result(timeout=20)
    body = calls[0].body
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (50, 0.5, 7)
    assert body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    *pictures, words = body["messages"][1]["content"]
    assert words == {"type": "text", "text": "What is it?"}
    for frame, picture in zip(frames, pictures, strict=True):
        data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
        shown = np.asarray(PIL.Image.open(io.BytesIO(data))).astype(int)
        assert np.abs(shown - frame).mean() < 4


def test_a_group_stays_on_its_server_until_that_is_down() -> None:
    with serve(echo) as (one, calls_one), serve(echo) as (two, calls_two):
        with open_openai(configured(one, two)) as engine:
            requests = [question(f"{g}/{k}", group=f"g{g}") for g in range(12) for k in range(4)]
            wait([engine.submit(request) for request in requests], timeout=20)
        homes = [{call.text.split("/")[0] for call in calls} for calls in (calls_one, calls_two)]
        assert not homes[0] & homes[1]
        assert all(homes)
    with serve(echo) as (two, calls_two):
        gone = "http://127.0.0.1:9/v1"
        with open_openai(configured(gone, two)) as engine:
            futures = [engine.submit(request) for request in requests]
            assert {f.result(timeout=60).outcome for f in futures} == {Outcome.COMPLETE}
    assert Counter(call.text for call in calls_two) == Counter(r.id for r in requests)


def test_an_error_is_raised_at_once_if_no_server_is_up() -> None:
    with (
        pytest.raises(EngineStoppedError, match=r"No server is available.*does not answer"),
        open_openai(configured("http://127.0.0.1:9/v1")),
    ):
        pass


def test_a_missing_model_is_reported_with_the_available_ones() -> None:
    with (
        serve(echo, models=["llama", "qwen"]) as (url, _),
        pytest.raises(ValueError, match="has no model tiny; it has: llama, qwen"),
        open_openai(configured(url)),
    ):
        pass


def test_when_all_servers_stay_down_the_engine_stops_and_fails_nothing() -> None:
    with serve(Call.drop) as (url, _), open_openai(configured(url), patience=0.5) as engine:
        futures = [engine.submit(question(f"question {k}")) for k in range(5)]
        for future in futures:
            with pytest.raises(EngineStoppedError, match="No server has answered for"):
                future.result(timeout=30)
        with pytest.raises(EngineStoppedError):
            engine.submit(question("later")).result(timeout=5)


def test_patience_begins_when_the_servers_go_down() -> None:
    quiet = threading.Event()

    def answer(call: Call) -> None:
        call.drop() if quiet.is_set() else echo(call)

    with serve(answer) as (url, _), open_openai(configured(url), patience=2.0) as engine:
        assert engine.submit(question("early")).result(timeout=30).outcome == Outcome.COMPLETE
        time.sleep(2.5)  # without requests
        quiet.set()
        late = engine.submit(question("late"))
        time.sleep(1.0)
        quiet.clear()
        assert late.result(timeout=30).outcome == Outcome.COMPLETE


def test_a_server_that_comes_back_is_used_again(caplog: pytest.LogCaptureFixture) -> None:
    down = threading.Event()
    down.set()

    def answer(call: Call) -> None:
        call.drop() if down.is_set() else echo(call)

    with serve(answer) as (url, _), open_openai(configured(url)) as engine:
        futures = [engine.submit(question(f"question {k}")) for k in range(3)]
        time.sleep(0.5)
        down.clear()
        assert {f.result(timeout=30).outcome for f in futures} == {Outcome.COMPLETE}
    told = [record.getMessage() for record in caplog.records]
    retried = f"{url} does not answer: requests to it are tried again."
    assert told == [retried, f"{url} answers again."]


def test_a_server_that_comes_back_busy_is_used_again() -> None:
    def answer(call: Call) -> None:
        if call.number < 3:
            call.drop()
        elif call.number == 3:
            call.reply(429, "{}", Retry_After="0.05")
        else:
            echo(call)

    with serve(answer) as (url, _), open_openai(configured(url), patience=5.0) as engine:
        result = engine.submit(question("question")).result(timeout=30)
    assert result.outcome is Outcome.COMPLETE


def test_a_cancelled_probe_is_repeated() -> None:
    def answer(call: Call) -> None:
        if call.number < 3:
            call.drop()
        elif call.text == "first":
            call.hang()
        else:
            echo(call)

    with serve(answer) as (url, calls), open_openai(configured(url), patience=5.0) as engine:
        first = engine.submit(question("first"))
        while len(calls) < 4:
            time.sleep(0.01)
        first.cancel()
        assert engine.submit(question("second")).result(timeout=30).text == "answer to second"


def test_a_cancelled_request_is_aborted_on_the_server() -> None:
    gone = threading.Event()

    def answer(call: Call) -> None:
        call.hang()
        gone.set()

    with serve(answer) as (url, calls), open_openai(configured(url)) as engine:
        future = engine.submit(question("never mind"))
        while not calls:
            time.sleep(0.01)
        assert future.cancel()
        assert gone.wait(10)
