"""How a stage talks to a model: requests with ids in, results with ids out, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """Words.

    Attributes:
        text: as the model is to read them.
    """

    text: str


@dataclass(frozen=True, eq=False)
class Image:
    """A picture.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
    """

    pixels: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Clip:
    """A sequence of frames.

    Attributes:
        frames: k arrays of (h, w, 3) uint8 RGB, all of one shape; other requests may share them.
        times: k seconds from the clip's first frame on, strictly increasing.
    """

    frames: Sequence[NDArray[np.uint8]]
    times: Sequence[float]


Part = Text | Image | Clip


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        parts: what is said and shown, in order.
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        max_tokens: new tokens at most.
        temperature: 0 takes the likeliest token.
        seed: of the draw.
        reasoning_effort: for models that take one.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    reasoning_effort: Literal["low", "medium", "high"] | None = None


@dataclass(frozen=True)
class Request:
    """A question to a model.

    Attributes:
        id: comes back with the result; unique among the requests that an engine holds.
        messages: the conversation so far; the model speaks next.
        sampling: how to draw the answer.
        schema: a JSON schema that the answer must follow. An engine sends it where it can; whether
            the answer keeps it, the asker checks.
        group: requests of one group share a prefix and go to the same server.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    schema: Mapping[str, Any] | None = None
    group: str = ""


class Outcome(str, Enum):
    """How a request ended."""

    COMPLETE = "complete"
    """The model ended its answer itself."""
    TRUNCATED = "truncated"
    """The token limit cut the answer off; the text so far is kept."""
    EMPTY = "empty"
    """The model answered nothing."""
    REFUSED = "refused"
    """The model, or a filter before it, would not answer."""
    FAILED = "failed"
    """No answer came; the reason tells why."""


@dataclass(frozen=True)
class Usage:
    """What a request cost.

    Attributes:
        prompt: tokens read, `cached` among them.
        cached: prompt tokens that the engine took from its prefix cache, as far as it tells.
        completion: tokens written, reasoning among them.
        retries: attempts after the first.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    retries: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.retries + other.retries,
        )


@dataclass(frozen=True)
class Result:
    """What came of a request.

    Attributes:
        id: the request's.
        outcome: how it ended.
        text: the answer without reasoning, stripped; "" unless complete or truncated.
        reason: why it is not complete, a sentence for a person; "" if it is.
        usage: what it cost.
        lasting: of a failure: the same request would meet it again.
    """

    id: str
    outcome: Outcome
    text: str = ""
    reason: str = ""
    usage: Usage = Usage()
    lasting: bool = False


class EngineStoppedError(RuntimeError):
    """The engine can answer nothing any more: no server is up, or the model's process died."""


class Engine(Protocol):
    """A model that answers. Any number of threads share one."""

    @property
    def capacity(self) -> int:
        """Unanswered requests that keep it busy: what it works on at once, and a queue behind."""
        ...

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together; None where the engine does not tell."""
        ...

    def submit(self, request: Request) -> Future[Result]:
        """Queue a request; returns at once.

        The future's `cancel` gives the request up, running or not. What is wrong with one request
        is its result's outcome; the future raises EngineStoppedError where no request can be
        answered any more, and CancelledError once the engine is closed.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text by the model's own tokenizer, without special ones.

        Raises:
            ValueError: the engine knows no tokenizer.
        """
        ...


def outcome_of(text: str, *, cut_off: bool) -> tuple[Outcome, str]:
    """How an answer that came ended, and the reason in words."""
    if not text.strip():
        limit = " before the token limit" if cut_off else ""
        return Outcome.EMPTY, f"The model answered nothing{limit}."
    if cut_off:
        return Outcome.TRUNCATED, "The token limit cut the answer off."
    return Outcome.COMPLETE, ""
