"""Read ahead: the next parts are read while the current one is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def read_ahead(parts: Iterable[Iterator[T]], together: int) -> Iterator[T]:
    """Yield the items of the parts, one part after the other, reading several at the same time.

    Each part that is started buffers one item, so memory is bounded by `together`.

    Args:
        parts: iterators whose items are not None. Part k+together is not started before part k has
            ended.
        together: how many parts are read at the same time, each in a thread.
    """
    rest = iter(parts)
    begun: deque[tuple[Iterator[T], Future[T | None]]] = deque()
    with ThreadPoolExecutor(together) as pool:
        while True:
            for part in islice(rest, together - len(begun)):
                begun.append((part, pool.submit(next, part, None)))
            if not begun:
                return
            part, waiting = begun.popleft()
            item = waiting.result()
            if item is not None:
                begun.appendleft((part, pool.submit(next, part, None)))
                yield item
