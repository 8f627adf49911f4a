"""Ask an OpenAI engine, whose server is in `servers`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from action100m.config import OpenAIConfig
from action100m.inference import Message, Request, Result, Sampling, Text
from action100m.inference.openai import open_openai
from servers import MODEL, Call, serve


def configured(*urls: str, **changes: Any) -> OpenAIConfig:
    values = {"engine": "openai", "model": MODEL, "urls": list(urls), "concurrency": 8, **changes}
    return OpenAIConfig.model_validate(values)


def question(text: str, **changes: Any) -> Request:
    return Request(text, (Message("user", (Text(text),)),), Sampling(), **changes)


def ask(answer: Callable[[Call], None], count: int, **changes: Any) -> list[Result]:
    """Ask a server `count` questions at once; `answer` decides how it replies."""
    with serve(answer) as (url, _), open_openai(configured(url, **changes)) as engine:
        futures = [engine.submit(question(f"question {k}")) for k in range(count)]
        return [future.result(timeout=60) for future in futures]


def echo(call: Call) -> None:
    call.complete(f"answer to {call.text}")


def late(call: Call) -> None:
    time.sleep(random.random() / 10)
    echo(call)
