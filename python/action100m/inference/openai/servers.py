"""Choose the server for each request, and pause servers that fail."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from action100m.inference.engine import EngineStoppedError

_log = logging.getLogger(__name__)

_FAILURES = 3  # in a row, until a server is paused
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds that it is paused, doubling
_LOOK_AGAIN = 0.1


class Server:
    """One server and its recent failures: a circuit breaker.

    Attributes:
        renames_limit: whether it takes "max_completion_tokens", not "max_tokens".
    """

    def __init__(self, url: str, concurrency: int) -> None:
        self.url = url.rstrip("/")
        self.slots = asyncio.Semaphore(concurrency)
        self.load = 0
        self.renames_limit = False
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._closed_until = self._busy_until = 0.0
        self._probing = False

    def succeeded(self) -> None:
        """Record that it answered."""
        if self._failures >= _FAILURES:
            _log.warning("%s answers again.", self.url)
        self._failures, self._pause, self._busy_until = 0, _FIRST_PAUSE, 0.0

    def busy(self, seconds: float | None) -> None:
        """Record that it has no room, for `seconds` if it says so."""
        self.succeeded()  # it is up
        self._busy_until = time.monotonic() + max(seconds or 0.0, _FIRST_PAUSE)

    def failed(self) -> None:
        """Record that it failed to answer."""
        self._failures += 1
        if self._failures == _FAILURES:
            _log.warning("%s does not answer: requests to it are tried again.", self.url)
        if self._failures >= _FAILURES:
            self._closed_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    @property
    def open(self) -> bool:
        """Whether it takes requests; after failures, only one that tests whether it is back."""
        if self._failures < _FAILURES:
            return True
        return not self._probing and time.monotonic() >= self._closed_until

    @property
    def has_room(self) -> bool:
        """Whether it has not recently said that it has no room."""
        return time.monotonic() >= self._busy_until

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Mark a request to it as pending; after failures, it tests whether the server is back."""
        probes = self._failures >= _FAILURES
        self._probing |= probes
        try:
            yield
        finally:  # answered, failed or cancelled
            self._probing &= not probes


class Servers:
    """All servers. A group of requests goes to one of them while that one is up."""

    def __init__(self, urls: list[str], concurrency: int, patience: float) -> None:
        """`patience`: seconds with all servers down until requests fail."""
        self.all = [Server(url, concurrency) for url in urls]
        self._patience = patience
        self._last_success = time.monotonic()
        self._all_down_since = -math.inf  # first seen after the last success

    @asynccontextmanager
    async def lend(self, group: str) -> AsyncIterator[Server]:
        """Yield a server with a free slot for the block.

        Raises:
            EngineStoppedError: all servers have been down for too long.
        """
        while True:
            server = await self._choose(group)
            server.load += 1
            try:
                async with server.slots:
                    if server.open:  # it may have gone down while we waited
                        with server.asked():
                            yield server
                        return
            finally:
                server.load -= 1

    def succeeded(self, server: Server) -> None:
        """Record that a server answered."""
        self._last_success = time.monotonic()
        server.succeeded()

    def answered_since(self, moment: float) -> bool:
        """Return whether any server answered at or after that time of the monotonic clock."""
        return self._last_success >= moment

    async def _choose(self, group: str) -> Server:
        while not (up := [server for server in self.all if server.open]):
            if self._all_down_since < self._last_success:
                self._all_down_since = time.monotonic()
            down = time.monotonic() - self._all_down_since
            if down > self._patience:
                urls = ", ".join(server.url for server in self.all)
                raise EngineStoppedError(f"No server has answered for {down:.0f} s: {urls}.")
            await asyncio.sleep(_LOOK_AGAIN)
        up = [server for server in up if server.has_room] or up
        if group:
            return max(up, key=lambda server: _weight(group, server.url))
        return min(up, key=lambda server: server.load)


def _weight(group: str, url: str) -> bytes:
    """Rendezvous hashing: if a server goes down, only its own groups move."""
    return hashlib.sha256(f"{group}\n{url}".encode(errors="replace")).digest()
