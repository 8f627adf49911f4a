"""How a stage keeps an engine busy: bounded, in any order, and with an ear for Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from action100m.inference.engine import Engine, Request, Result

_POLL = 0.2  # seconds between looks at whether the run was interrupted


class Feed:
    """Hands an engine as many requests as keep it busy, and no more: each holds its frames.

    The workers of a stage share one, so that the engine is full while any of them has work.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._room = threading.BoundedSemaphore(engine.capacity)

    def submit(self, request: Request, check: Callable[[], None]) -> Future[Result]:
        """Wait for room, then queue the request.

        Args:
            request: the question.
            check: called now and then while waiting; may raise to give up.
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
