"""Fill a model's batches from many videos at once; one thread calls the model for all of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_LINGER = 0.005  # seconds that a partial batch waits for other videos; short next to one window

Key = TypeVar("Key")
Item = TypeVar("Item")
Taken = TypeVar("Taken")
Rows = NDArray[np.float32]

_log = logging.getLogger(__name__)


class OutOfDeviceMemoryError(Exception):
    """Raised by a model if a batch does not fit; the memory that the batch took is free again."""


@dataclass(eq=False)
class _Lane:
    """One video, from its first item to its last result."""

    waiting: bool = False  # for a result; no further item comes before it


@dataclass(eq=False)
class _Request(Generic[Item]):
    lane: _Lane
    item: Item
    result: Future[Rows] = field(default_factory=Future)


class Batcher(Generic[Item]):
    """Collects items from many threads and calls the model with full batches, from one thread.

    An error of the model is raised only for those with an item in that batch. If a batch, or
    something next to it (see `fit`), does not fit into the device's memory, later batches are
    halved and a warning is logged.

    Use as a context manager, or call `close`.
    """

    def __init__(self, embed: Callable[[Sequence[Item]], Rows], batch: int) -> None:
        """Create a batcher; its thread starts with the first item.

        Args:
            embed: function that takes 1 <= b <= `batch` items and returns a new array of shape
                (b, ...), float32. May raise OutOfDeviceMemoryError.
            batch: maximum number of items in a batch.

        Raises:
            ValueError: batch < 1.
        """
        if batch < 1:
            raise ValueError(f"A model's batch must hold at least 1 window, not {batch}.")
        self._embed = embed
        self._limit = batch
        self._in_flight = 2 * batch  # one batch in the model, the next one filling
        self._pending: deque[_Request[Item]] = deque()
        self._lanes: set[_Lane] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._in_model = 0  # items
        self._answered = 0  # batches
        self._halved_at = -1  # batches answered when `fit` last halved the batches
        self._closed = False

    def __enter__(self) -> Batcher[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread after the current batch; waiting items get a RuntimeError."""
        with self._changed:
            self._closed = True
            abandoned, self._pending = self._pending, deque()
            self._changed.notify_all()
        for request in abandoned:
            request.result.set_exception(_closed_error())
        if self._thread is not None:
            self._thread.join()

    def map(self, items: Iterable[tuple[Key, Item]]) -> Generator[tuple[Key, Rows], None, None]:
        """Yield (key, rows) for every (key, item), in the order of the items.

        At most two batches of items are in progress; beyond that, another item is taken only after
        the oldest result. Closing the generator drops the items that are still waiting.

        Raises:
            RuntimeError: the batcher is closed.
            Exception: any error of the model.
        """
        lane = self._open_lane()
        under_way: deque[tuple[Key, Future[Rows]]] = deque()
        try:
            for key, item in items:
                under_way.append((key, self._submit(lane, item)))
                while under_way and (under_way[0][1].done() or len(under_way) >= self._in_flight):
                    yield self._oldest(lane, under_way)
            while under_way:
                yield self._oldest(lane, under_way)
        finally:
            under_way.clear()  # as in _oldest
            self._close_lane(lane)

    def fit(self, take: Callable[[], Taken]) -> Taken:
        """Call a function that allocates device memory, halving the batches until it succeeds.

        Raises:
            OutOfDeviceMemoryError: the memory is too small even next to single items.
        """
        while True:
            with self._changed:
                limit = self._limit
                single = limit == 1 and self._in_model <= 1  # a larger batch may still be running
            try:
                return take()
            except OutOfDeviceMemoryError:
                if single:
                    raise
            self._make_room(limit)

    def _make_room(self, tried: int) -> None:
        with self._changed:
            before = self._answered
            # Halve only once for all threads that do not fit next to the same batch.
            halved = self._in_model and self._halved_at == before
            if self._limit == tried > 1 and not halved:
                self._halve(tried)
                self._halved_at = before
            self._changed.wait_for(lambda: not self._in_model or self._answered > before)

    def _open_lane(self) -> _Lane:
        lane = _Lane()
        with self._changed:
            if self._closed:
                raise _closed_error()
            self._lanes.add(lane)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="model", daemon=True)
                self._thread.start()
        return lane

    def _close_lane(self, lane: _Lane) -> None:
        with self._changed:
            self._lanes.remove(lane)
            self._pending = deque(r for r in self._pending if r.lane is not lane)
            self._changed.notify_all()

    def _submit(self, lane: _Lane, item: Item) -> Future[Rows]:
        request = _Request(lane, item)
        with self._changed:
            if self._closed:
                raise _closed_error()
            self._pending.append(request)
            self._changed.notify_all()
        return request.result

    def _oldest(self, lane: _Lane, under_way: deque[tuple[Key, Future[Rows]]]) -> tuple[Key, Rows]:
        key, result = under_way.popleft()
        if not result.done():
            with self._changed:
                lane.waiting = True
                self._changed.notify_all()
        try:
            return key, result.result()
        finally:
            lane.waiting = False
            del result  # its error refers to this frame: a reference cycle would keep the windows

    # The methods below run in the model's thread.

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        requests = self._collect()
        while requests:
            with self._changed:
                part, requests = requests[: self._limit], requests[self._limit :]
                self._in_model = len(part)
            requests = self._answer(part) + requests
            with self._changed:
                self._in_model = 0
                self._answered += 1
                self._changed.notify_all()
        return not self._closed

    def _collect(self) -> list[_Request[Item]]:
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            deadline = time.monotonic() + _LINGER
            while len(self._pending) < self._limit and self._others_may_come():
                if not self._changed.wait(deadline - time.monotonic()):
                    break
            count = min(self._limit, len(self._pending))
            return [self._pending.popleft() for _ in range(count)]

    def _others_may_come(self) -> bool:
        seen = {request.lane for request in self._pending}
        return not self._closed and any(
            not lane.waiting and lane not in seen for lane in self._lanes
        )

    def _answer(self, part: list[_Request[Item]]) -> list[_Request[Item]]:
        """Answer all requests of `part`, or return them to be tried again in smaller batches."""
        try:
            rows = self._embed([request.item for request in part])
            if len(rows) != len(part):
                raise ValueError(f"The model gave {len(rows)} results for {len(part)} windows.")
        except BaseException as error:  # if the thread ended, all callers would wait forever
            if isinstance(error, OutOfDeviceMemoryError) and len(part) > 1:
                self._halve(len(part))
                return part
            while part:  # pop, because the error refers to this frame and would keep the windows
                part.pop().result.set_exception(error)
        else:
            for request, row in zip(part, rows, strict=True):
                request.result.set_result(row)
        return []

    def _halve(self, tried: int) -> None:
        self._limit = tried // 2
        _log.warning(
            "A batch of %d windows does not fit into the device's memory: continuing with %d.",
            tried,
            self._limit,
        )


def _closed_error() -> RuntimeError:
    return RuntimeError("The encoder was closed while a video was being encoded with it.")
