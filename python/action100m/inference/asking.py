"""One video's questions on their way: asked in any order, answered in any order, none lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from action100m.inference.answers import Answer, Journal
from action100m.inference.engine import Request, Result, Usage
from action100m.inference.feed import Feed

_POLL = 0.2  # seconds between looks at whether the run was interrupted


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question that an engine has, or is to get again."""

    key: str
    feed: Feed
    request: Request
    attempt: int
    spent: Usage

    def again(self, spent: Usage) -> _Asked:
        """The same question, drawn with another seed."""
        sampling = replace(self.request.sampling, seed=self.request.sampling.seed + 1)
        request = replace(self.request, sampling=sampling, id=f"{self.key}/{self.attempt + 1}")
        return replace(self, request=request, attempt=self.attempt + 1, spent=spent)


class Asking:
    """Asks the questions of one video, for one thread; a context manager.

    Answers are journalled as they come. A question whose answer fails or is empty is asked again
    before it counts as unanswered. Whatever ends the block early gives up what is still on its way.

    Attributes:
        answers: those known, and those that came.
        settled: how many came.
    """

    def __init__(self, journal: Journal, known: Mapping[str, Answer], attempts: int) -> None:
        """`known`: answers from elsewhere; those of the journal are read here."""
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
        """Whether an answer is still to come."""
        return bool(self._running)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._running.values():
            future.cancel()

    def ask(self, key: str, feed: Feed, request: Request, check: Callable[[], None]) -> None:
        """Ask, unless the answer is known or on its way; wait while the engine is full.

        Args:
            key: of the question.
            feed: of the engine to ask.
            request: its id is replaced by one that nobody else uses.
            check: called while waiting; may raise to give up.

        Raises:
            EngineStoppedError: the engine can answer nothing any more.
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
        """Wait a moment for answers."""
        check()
        self._collect(_POLL)
        self._ask_again(check)

    def take_answered(self) -> list[str]:
        """Keys of the questions that were answered since the last call."""
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
        """Take the answers that are there; wait `patience` seconds for the first."""
        while True:
            try:
                asked, future = self._ended.get(block=patience > 0, timeout=patience)
            except Empty:
                return
            self._settle(asked, future.result())
            patience = 0

    def _settle(self, asked: _Asked, result: Result) -> None:
        if result.id != asked.request.id:
            raise RuntimeError(
                f"An engine answered {result.id} where {asked.request.id} was asked."
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
            self._journal.append(answer)
