"""Interface between stages and models: requests and results have ids and come in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from action100m.config import ReasoningEffort


@dataclass(frozen=True)
class Text:
    """A text.

    Attributes:
        text: text as the model reads it.
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
        times: k times in seconds since the clip's first frame, strictly increasing.
    """

    frames: Sequence[NDArray[np.uint8]]
    times: Sequence[float]


Part = Text | Image | Clip
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: role of the speaker.
        parts: texts, pictures and clips, in order.
    """

    role: Role
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Sampling:
    """How an answer is sampled.

    Attributes:
        max_tokens: maximum number of new tokens.
        temperature: 0 takes the most likely token.
        seed: random seed.
        reasoning_effort: for models that support it.
    """

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    reasoning_effort: ReasoningEffort | None = None


@dataclass(frozen=True)
class Request:
    """A question to a model.

    Attributes:
        id: returned with the result; unique among the requests that an engine holds.
        messages: the conversation so far; the model speaks next.
        sampling: how to sample the answer.
        schema: a JSON schema that the answer must follow. An engine enforces it if it can; the
            caller checks the answer.
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
    """The model returned no text."""
    REFUSED = "refused"
    """The model, or a content filter, refused to answer."""
    FAILED = "failed"
    """There is no answer; the reason says why."""


@dataclass(frozen=True)
class Usage:
    """What a request cost.

    Attributes:
        prompt: tokens read, including `cached`.
        cached: prompt tokens from the engine's prefix cache, as far as it reports them.
        completion: tokens written, including reasoning.
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
    """Result of a request.

    Attributes:
        id: id of the request.
        outcome: how it ended.
        text: the answer without reasoning, stripped; "" unless complete or truncated.
        reason: a sentence that says why it is not complete; "" if it is.
        usage: cost of the request.
        lasting: whether the same request would fail in the same way again.
    """

    id: str
    outcome: Outcome
    text: str = ""
    reason: str = ""
    usage: Usage = Usage()
    lasting: bool = False


class EngineStoppedError(RuntimeError):
    """The engine can no longer answer: no server is up, or the model's process died."""


class Engine(Protocol):
    """A model that answers requests. Any number of threads may share one."""

    @property
    def capacity(self) -> int:
        """Number of unanswered requests that keeps it busy: those in progress and a queue."""
        ...

    @property
    def context_length(self) -> int | None:
        """Maximum tokens of prompt and answer together; None if the engine does not say."""
        ...

    def submit(self, request: Request) -> Future[Result]:
        """Queue a request and return immediately.

        The future's `cancel` aborts the request, running or not. An error of one request is
        reported as the outcome of its result; the future raises EngineStoppedError if the engine
        can no longer answer any request, and CancelledError once the engine is closed.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text with the model's own tokenizer, without special tokens.

        Raises:
            ValueError: the engine has no tokenizer.
        """
        ...


def capacity_of(slots: int) -> int:
    """Return the number of requests that keeps `slots` busy: a quarter more of them wait.

    A freed slot is filled at once, and few prompts hold their frames in memory while they wait.
    """
    return slots + -(-slots // 4)


def outcome_of(text: str, *, cut_off: bool) -> tuple[Outcome, str]:
    """Return the outcome of a received answer, and the reason as a sentence."""
    if not text.strip():
        limit = " before the token limit" if cut_off else ""
        return Outcome.EMPTY, f"The model answered nothing{limit}."
    if cut_off:
        return Outcome.TRUNCATED, "The token limit cut the answer off."
    return Outcome.COMPLETE, ""
