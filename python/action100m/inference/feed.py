"""Keep an engine busy with a bounded number of requests, and remain interruptible by Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from action100m.inference.engine import Engine, Request, Result

_POLL = 0.2  # seconds between checks whether the run was interrupted


class Feed:
    """Submits as many requests as keep an engine busy, and no more, as each holds its frames.

    The workers of a stage share one, so that the engine is busy while any of them has work.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._room = threading.BoundedSemaphore(engine.capacity)

    def submit(self, request: Request, check: Callable[[], None]) -> Future[Result]:
        """Wait for room, then queue the request.

        Args:
            request: the question.
            check: called regularly while waiting; may raise to abort.
        """
        while not self._room.acquire(timeout=_POLL):
            check()
        try:
            future = self.engine.submit(request)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future
