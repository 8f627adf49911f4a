"""Ask the questions of one video: they are asked and answered in any order, and none is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from action100m.inference.answers import Answer, Journal
from action100m.inference.engine import Request, Result, Usage
from action100m.inference.feed import Feed
from action100m.trace import span

_POLL = 0.2  # seconds between checks whether the run was interrupted


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question that an engine has, or will be asked again."""

    key: str
    feed: Feed
    request: Request
    attempt: int
    spent: Usage

    def again(self, spent: Usage) -> _Asked:
        """Return the same question, to be sampled with another seed."""
        sampling = replace(self.request.sampling, seed=self.request.sampling.seed + 1)
        request = replace(self.request, sampling=sampling, id=f"{self.key}/{self.attempt + 1}")
        return replace(self, request=request, attempt=self.attempt + 1, spent=spent)


class Asking:
    """Context manager that asks the questions of one video; used by one thread.

    Final answers are journalled as they arrive. A question whose answer fails or is empty is asked
    again before it counts as unanswered. If the block ends early, pending requests are cancelled,
    and answers that have arrived are journalled.

    Attributes:
        answers: known and received answers, by key.
        settled: number of received answers.
    """

    def __init__(self, journal: Journal, known: Mapping[str, Answer], attempts: int) -> None:
        """`known`: answers from other sources; those of the journal are read here."""
        self.answers: dict[str, Answer] = {**known, **journal.read()}
        self.settled = 0
        self._journal = journal
        self._attempts = attempts
        self._running: dict[str, Future[Result]] = {}
        self._ended: SimpleQueue[tuple[_Asked, Future[Result]]] = SimpleQueue()
        self._again: deque[_Asked] = deque()
        self._answered: list[str] = []

    @property
    def busy(self) -> bool:
        """Whether an answer is still pending."""
        return bool(self._running)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._keep_arrived()
        finally:
            for future in self._running.values():
                future.cancel()

    def ask(self, key: str, feed: Feed, request: Request, check: Callable[[], None]) -> None:
        """Ask, unless the answer is known or pending; wait while the engine is full.

        Args:
            key: key of the question.
            feed: feed of the engine to ask.
            request: the request, whose id is replaced by a unique one.
            check: called while waiting; may raise to abort.

        Raises:
            EngineStoppedError: the engine can no longer answer.
            OSError: the journal cannot be written.
        """
        if key in self.answers or key in self._running:
            return
        self._submit(_Asked(key, feed, replace(request, id=f"{key}/0"), 0, Usage()), check)
        self._ask_again(check)

    def finish(self, check: Callable[[], None]) -> None:
        """Wait until every question has its answer."""
        while self.busy:
            self.wait(check)

    def wait(self, check: Callable[[], None]) -> None:
        """Wait briefly for answers."""
        check()
        self._collect(_POLL)
        self._ask_again(check)

    def take_answered(self) -> list[str]:
        """Return the keys of the questions that were answered since the last call."""
        answered, self._answered = self._answered, []
        return answered

    def _submit(self, asked: _Asked, check: Callable[[], None]) -> None:
        def watch() -> None:
            check()
            self._collect(0)

        future = asked.feed.submit(asked.request, watch)
        self._running[asked.key] = future
        future.add_done_callback(lambda done: self._ended.put((asked, done)))

    def _ask_again(self, check: Callable[[], None]) -> None:
        self._collect(0)
        while self._again:
            self._submit(self._again.popleft(), check)

    def _collect(self, patience: float) -> None:
        """Take the available answers; wait up to `patience` seconds for the first."""
        while True:
            try:
                asked, future = self._ended.get(block=patience > 0, timeout=patience)
            except Empty:
                return
            self._settle(asked, future.result())
            patience = 0

    def _keep_arrived(self) -> None:
        """Journal the answers that were not taken before an error: they may have cost money."""
        while not self._ended.empty():
            asked, future = self._ended.get()
            if not future.cancelled() and future.exception() is None:
                self._settle(asked, future.result())

    def _settle(self, asked: _Asked, result: Result) -> None:
        if result.id != asked.request.id:
            raise RuntimeError(
                f"An engine answered request {result.id} instead of {asked.request.id}."
            )
        answer = Answer.of(asked.key, result, asked.spent)
        settled = answer.final or answer.lasting
        if not settled and asked.attempt + 1 < self._attempts:
            self._again.append(asked.again(replace(answer.usage, retries=answer.usage.retries + 1)))
            return
        del self._running[asked.key]
        self.settled += 1
        self.answers[asked.key] = answer
        self._answered.append(asked.key)
        if answer.final:
            tokens = {"prompt tokens": result.usage.prompt, "new tokens": result.usage.completion}
            with span("journal", answers=1, **tokens):
                self._journal.append(answer)
