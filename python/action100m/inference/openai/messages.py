"""Convert requests to OpenAI's chat completions format, and answers from it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from action100m.inference.engine import (
    Image,
    Message,
    Outcome,
    Part,
    Request,
    Result,
    Text,
    Usage,
    outcome_of,
)
from action100m.inference.reasoning import answer_in

_JPEG_QUALITY = 90
_BROKEN_OFF = ("abort", "cancelled", "error")  # finish reasons of vLLM, SGLang and proxies
_MOST_TOKENS = 2**40  # a larger count is not valid


class BrokenAnswerError(ValueError):
    """A server's answer does not follow the protocol."""


class AbortedAnswerError(BrokenAnswerError):
    """A server stopped in the middle of an answer."""


def body_of(request: Request, model: str) -> dict[str, Any]:
    """Return the JSON body. Pictures are JPEGs of quality 90; a clip is its frames in order."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
    }
    if sampling.reasoning_effort is not None:
        body["reasoning_effort"] = sampling.reasoning_effort
    if request.schema is not None:
        schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def result_of(request: Request, answer: Any, retries: int) -> Result:
    """Return a server's answer as a result.

    Raises:
        BrokenAnswerError: it is not a chat completion.
        AbortedAnswerError: it is one that the server did not complete.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text = answer_in(_text_in(message.get("content")))
        finish = choice.get("finish_reason")
        refusal = message.get("refusal")
        usage = _usage(answer.get("usage") or {}, retries)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
        raise BrokenAnswerError("The server's answer is not a chat completion") from None
    if finish in _BROKEN_OFF:
        raise AbortedAnswerError(f"The server aborted the answer ({finish}).")
    if refusal or finish == "content_filter":
        reason = "The model refused to answer." if refusal else "A filter of the server intervened."
        return Result(request.id, Outcome.REFUSED, reason=reason, usage=usage)
    outcome, reason = outcome_of(text, cut_off=finish == "length")
    return Result(request.id, outcome, text, reason, usage)


def _text_in(content: Any) -> str:
    """Return the text of an answer, which Mistral's reasoning models send as a list of parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def _usage(reported: dict[str, Any], retries: int) -> Usage:
    details = reported.get("prompt_tokens_details") or {}
    return Usage(
        prompt=_count(reported.get("prompt_tokens")),
        cached=_count(details.get("cached_tokens")),
        completion=_count(reported.get("completion_tokens")),
        retries=retries,
    )


def _count(reported: Any) -> int:
    tokens = int(reported or 0)
    return tokens if 0 <= tokens < _MOST_TOKENS else 0


def _message(message: Message) -> dict[str, Any]:
    if all(isinstance(part, Text) for part in message.parts):
        texts = [part.text for part in message.parts if isinstance(part, Text)]
        return {"role": message.role, "content": "".join(texts)}
    content = [item for part in message.parts for item in _items(part)]
    return {"role": message.role, "content": content}


def _items(part: Part) -> list[dict[str, Any]]:
    if isinstance(part, Text):
        return [{"type": "text", "text": part.text}]
    pictures = [part.pixels] if isinstance(part, Image) else part.frames
    return [{"type": "image_url", "image_url": {"url": _data_uri(p)}} for p in pictures]


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
