from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from action100m.inference import EngineStoppedError, Feed, Request, Result, Sampling
from action100m.inference.answers import Journal
from action100m.inference.asking import Asking
from engines import complete


class SlowEngine:
    """Answers nothing by itself."""

    capacity, context_length = 8, None

    def __init__(self) -> None:
        self.asked: list[tuple[Request, Future[Result]]] = []

    def submit(self, request: Request) -> Future[Result]:
        self.asked.append((request, Future()))
        return self.asked[-1][1]


def test_answers_that_arrive_before_an_interruption_are_kept(tmp_path: Path) -> None:
    engine = SlowEngine()
    feed = Feed(engine)  # type: ignore[arg-type]

    def interrupt() -> None:
        raise KeyboardInterrupt

    with (
        suppress(KeyboardInterrupt),
        Journal(tmp_path) as journal,
        Asking(journal, {}, attempts=3) as asking,
    ):
        for key in "abcde":
            asking.ask(key, feed, Request("", (), Sampling()), lambda: None)
        (_, stopped), (_, cancelled), *answered, (_, pending) = engine.asked
        stopped.set_exception(EngineStoppedError("No server is up."))
        cancelled.cancel()
        for request, future in answered:
            future.set_result(complete(request, "paid"))
        asking.wait(interrupt)
    assert pending.cancelled()
    assert set(Journal(tmp_path).read()) == {"c", "d"}
