"""Engines that answer with what they were shown, delayed and out of order."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from action100m.inference import Clip, Image, Outcome, Request, Result, Text, Usage


def seen(request: Request) -> str:
    """Return a text that identifies what a request shows and asks."""
    words = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                words.append(part.text)
            elif isinstance(part, Image):
                words.append(describe([part.pixels]))
            elif isinstance(part, Clip):
                words.append(describe(part.frames))
    return " | ".join(words)


def describe(frames: Sequence[np.ndarray]) -> str:
    """Return the number and a digest of some frames."""
    digest = hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()[:12]
    return f"{len(frames)} frames {digest}"


class EchoEngine:
    """Answers a request with `answer`, possibly after others that came later."""

    context_length = None

    def __init__(
        self,
        answer: Callable[[Request], Result | BaseException] | None = None,
        *,
        capacity: int = 8,
        seconds: float = 0.02,
    ) -> None:
        """`seconds`: the longest time that an answer takes."""
        self.capacity = capacity
        self._seconds = seconds
        self.requests: list[Request] = []
        self._answer = answer or (lambda request: complete(request, seen(request)))
        self._waiting: list[tuple[Request, Future[Result]]] = []
        self._random = random.Random(0)
        self._lock = threading.Lock()

    def submit(self, request: Request) -> Future[Result]:
        future: Future[Result] = Future()
        with self._lock:
            self.requests.append(request)
            self._waiting.append((request, future))
        threading.Timer(self._random.random() * self._seconds, self._answer_any).start()
        return future

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def _answer_any(self) -> None:
        with self._lock:
            request, future = self._waiting.pop(self._random.randrange(len(self._waiting)))
        if not future.set_running_or_notify_cancel():
            return
        result = self._answer(request)
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)


def complete(request: Request, text: str) -> Result:
    """Return a complete answer."""
    return Result(request.id, Outcome.COMPLETE, text, usage=Usage(prompt=10, completion=3))
