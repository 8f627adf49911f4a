"""The key that servers require, and what they answer if they do not like it."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from action100m.config import parse_config
from action100m.errors import ConfigError
from action100m.inference import EngineStoppedError, Outcome, check_access
from action100m.inference.openai import open_openai
from ask_openai import ask, configured, echo, late, question
from servers import Call, serve


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (402, {"message": "Insufficient credits"}, "has no credit left.*Insufficient credits"),
        (200, {"message": "Add money", "code": 402}, "has no credit left.*Add money"),
        (403, {"message": "Key limit exceeded"}, "does not allow requests.*Key limit exceeded"),
    ],
)
def test_a_key_that_cannot_be_used_stops_the_engine_and_fails_nothing(
    status: int, body: dict[str, Any], reason: str
) -> None:
    def answer(call: Call) -> None:
        echo(call) if call.number < 1 else call.reply(status, json.dumps({"error": body}))

    with serve(answer) as (url, _), open_openai(configured(url)) as engine:
        assert engine.submit(question("one")).result(timeout=20).outcome is Outcome.COMPLETE
        with pytest.raises(EngineStoppedError, match=reason):
            engine.submit(question("two")).result(timeout=20)


@pytest.mark.parametrize("status", [200, 403])
def test_a_forbidden_request_fails_alone(status: int) -> None:
    error = json.dumps({"error": {"code": 403, "message": "Your input was flagged."}})

    def answer(call: Call) -> None:
        call.reply(status, error) if call.text == "question 0" else late(call)

    results = ask(answer, 5)
    assert [result.outcome.value for result in results] == ["failed"] + ["complete"] * 4
    assert results[0].lasting
    assert "refused the request: Your input was flagged." in results[0].reason


@pytest.mark.parametrize("place", ["variable", "file"])
def test_the_key_is_sent_and_never_shown(
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    key = "sk-very-secret-0123456789"
    caplog.set_level(logging.DEBUG)
    if place == "variable":
        monkeypatch.setenv("MY_KEY", key)
        changes = {"key_variable": "MY_KEY"}
    else:
        (tmp_path / "key").write_text(f"\ufeff{key}\r\n", "utf-8")  # as Windows writes it
        changes = {"key_file": str(tmp_path / "key")}

    def answer(call: Call) -> None:
        words = f"You sent {call.headers['Authorization']}"
        call.reply(400 if call.number == 0 else 401, json.dumps({"error": {"message": words}}))

    with serve(answer) as (url, calls), open_openai(configured(url, **changes)) as engine:
        result = engine.submit(question("one")).result(timeout=20)
        with pytest.raises(EngineStoppedError, match="does not accept the key") as stopped:
            engine.submit(question("two")).result(timeout=20)
    assert calls[0].headers["Authorization"] == f"Bearer {key}"
    everything = [result.reason, str(stopped.value), caplog.text, *capfd.readouterr(), repr(engine)]
    assert "[key]" in result.reason
    assert not any(key in text for text in everything)


def test_a_missing_key_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with (
        pytest.raises(ValueError, match="environment variable MY_KEY holds no key"),
        open_openai(configured("http://127.0.0.1:9/v1", key_variable="MY_KEY")),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("\n", "key holds no key"),
        ("sk-secret\u2019", "a key is one line of printable ASCII"),
        ("sk-secret\nsk-secret\n", "a key is one line of printable ASCII"),
    ],
    ids=["empty", "quote", "two lines"],
)
def test_a_key_file_without_a_valid_key_is_an_error(
    content: str, error: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(content, "utf-8")
    config = configured("http://127.0.0.1:9/v1", key_file=str(tmp_path / "key"))
    with pytest.raises(ConfigError, match=error) as refused:
        check_access(config, annotates=False)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"urls": ["https://me:sk-secret@host/v1"]},
        {"urls": ["me:sk-secret@host/v1"]},
        {"urls": "https://me:sk-secret@host/v1"},
        {"key_variable": "sk-secret"},
    ],
    ids=str,
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(changes: dict[str, Any]) -> None:
    model = {"engine": "openai", "model": "m", "urls": ["https://host/v1"], **changes}
    complaint = (
        "urls.0: must not hold a key|urls.0: String|urls: Input|key_variable: must be the name"
    )
    with pytest.raises(ConfigError, match=complaint) as refused:
        parse_config({"aggregation": {"model": model}}, "settings")
    assert "secret" not in "".join(traceback.format_exception(refused.value))
