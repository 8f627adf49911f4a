from __future__ import annotations

import contextlib
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.segmentation.batching import Batcher, OutOfDeviceMemoryError

Rows = NDArray[np.float32]


def twice(items: Sequence[float]) -> Rows:
    return np.asarray(items, np.float32)[:, None] * 2


class Gate:
    """A model that blocks until it is released, and records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, items: Sequence[float]) -> Rows:
        self.batches.append(list(items))
        self.entered.release()
        assert self.open.wait(10)
        return twice(items)


def numbered(items: Sequence[float]) -> Iterator[tuple[float, float]]:
    return ((item, item) for item in items)


def start(work: Callable[..., Any], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def has_pending(batcher: Batcher[float], count: int) -> bool:
    return len(batcher._pending) == count


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_each_caller_receives_its_own_rows(batch: int) -> None:
    delays = random.Random(batch)
    found: dict[int, list[tuple[float, float]]] = {}

    def embed(items: Sequence[float]) -> Rows:
        time.sleep(delays.random() * 0.003)
        assert len(items) <= batch
        return twice(items)

    with Batcher(embed, batch) as batcher:

        def work(number: int) -> None:
            pace = random.Random(number)
            wanted = [number * 1000 + i for i in range(number * 7)]
            found[number] = []
            for key, rows in batcher.map(numbered(wanted)):
                found[number].append((key, float(rows[0])))
                time.sleep(pace.random() * 0.002)

        for thread in [start(work, number) for number in range(8)]:
            thread.join()
    for number in range(8):
        wanted = [number * 1000 + i for i in range(number * 7)]
        assert found[number] == [(item, item * 2) for item in wanted]


def test_batches_are_filled_across_videos() -> None:
    gate = Gate()
    with Batcher(gate, 6) as batcher:
        threads = [start(list, batcher.map(numbered([0])))]
        gate.entered.acquire()  # the model is busy with the first video's only window
        threads += [start(list, batcher.map(numbered([n, n + 1]))) for n in (10, 20, 30, 40)]
        eventually(partial(has_pending, batcher, 8))
        gate.open.set()
        for thread in threads:
            thread.join()
    assert [len(batch) for batch in gate.batches] == [1, 6, 2]
    assert sorted(chain.from_iterable(gate.batches)) == [0, 10, 11, 20, 21, 30, 31, 40, 41]


def test_a_stalled_video_does_not_block_others() -> None:
    with Batcher(twice, 4) as batcher:
        still = batcher.map(numbered(range(100)))
        assert next(still)[0] == 0
        assert len(list(batcher.map(numbered(range(50))))) == 50
        assert [key for key, _ in still] == list(range(1, 100))


def test_at_most_two_batches_are_in_flight() -> None:
    gate = Gate()
    taken: list[float] = []

    def watched() -> Iterator[tuple[float, float]]:
        for item in range(40):
            taken.append(item)
            yield item, item

    with Batcher(gate, 3) as batcher:
        thread = start(list, batcher.map(watched()))
        gate.entered.acquire()
        eventually(lambda: len(taken) == 6)
        time.sleep(0.02)
        assert len(taken) == 6
        gate.open.set()
        thread.join()
    assert len(taken) == 40


def test_an_error_reaches_only_callers_in_its_batch() -> None:
    gate = Gate()
    outcomes: dict[float, str] = {}

    def embed(items: Sequence[float]) -> Rows:
        rows = gate(items)
        if 13 in items:
            raise RuntimeError("the kernel failed")
        return rows

    with Batcher(embed, 2) as batcher:

        def work(item: float) -> None:
            try:
                outcomes[item] = str([float(rows[0]) for _, rows in batcher.map(numbered([item]))])
            except RuntimeError as error:
                outcomes[item] = str(error)

        threads = [start(work, 1)]
        gate.entered.acquire()
        for count, item in enumerate((2, 3, 13, 4, 5)):
            threads.append(start(work, item))
            eventually(partial(has_pending, batcher, count + 1))
        gate.open.set()
        for thread in threads:
            thread.join()
        again = [float(rows[0]) for _, rows in batcher.map(numbered([6]))]
    failed = "the kernel failed"
    assert outcomes == {1: "[2.0]", 2: "[4.0]", 3: "[6.0]", 13: failed, 4: failed, 5: "[10.0]"}
    assert again == [12]


def test_dropping_an_error_frees_the_windows_at_once() -> None:
    class Window:
        pass

    alive: list[weakref.ref[Window]] = []

    def windows() -> Iterator[tuple[int, Window]]:
        for number in range(5):
            window = Window()
            alive.append(weakref.ref(window))
            yield number, window

    def embed(items: Sequence[Window]) -> Rows:
        raise RuntimeError(f"cannot embed {len(list(items))}")

    gc.disable()
    try:
        with Batcher(embed, 2) as batcher:
            with contextlib.suppress(RuntimeError):
                list(batcher.map(windows()))
            eventually(lambda: not any(window() for window in alive))
    finally:
        gc.enable()
    assert alive


def test_running_out_of_memory_halves_the_batch_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sizes = []

    def embed(items: Sequence[float]) -> Rows:
        sizes.append(len(items))
        if len(items) > 3:
            raise OutOfDeviceMemoryError("no room")
        return twice(items)

    with Batcher(embed, 16) as batcher:
        assert [float(r[0]) for _, r in batcher.map(numbered(range(200)))] == [
            2.0 * i for i in range(200)
        ]
    too_large = [size for size in sizes if size > 3]
    assert too_large == sorted(set(too_large), reverse=True)  # no size is tried twice
    assert len(caplog.messages) == len(too_large)
    last = too_large[-1]
    assert caplog.messages[-1] == (
        f"A batch of {last} windows does not fit into the device's memory: "
        f"continuing with {last // 2}."
    )


def test_a_single_window_that_does_not_fit_is_an_error() -> None:
    def embed(items: Sequence[float]) -> Rows:
        raise OutOfDeviceMemoryError("not even one")

    with Batcher(embed, 4) as batcher, pytest.raises(OutOfDeviceMemoryError, match="not even one"):
        list(batcher.map(numbered(range(10))))


def test_windows_that_do_not_fit_wait_for_smaller_batches(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    refused = threading.Semaphore(0)

    def take() -> str:
        if not gate.open.is_set():  # the first batch is in the model
            refused.release()
            raise OutOfDeviceMemoryError("no room")
        return "taken"

    with Batcher(gate, 4) as batcher:
        threads = [start(list, batcher.map(numbered(range(12))))]
        gate.entered.acquire()
        found: list[str] = []
        threads += [start(lambda: found.append(batcher.fit(take))) for _ in range(3)]
        for _ in range(3):
            refused.acquire()
        eventually(lambda: len(caplog.messages) > 0)
        assert found == []
        gate.open.set()
        for thread in threads:
            thread.join()
    assert found == ["taken"] * 3
    assert max(len(batch) for batch in gate.batches[1:]) == 2
    assert len(caplog.messages) == 1  # though three did not fit


def test_windows_that_do_not_fit_wait_for_the_last_larger_batch() -> None:
    entered, let, refused = (threading.Semaphore(0) for _ in range(3))
    beside = [0]
    found: list[str] = []

    def embed(items: Sequence[float]) -> Rows:
        beside[0] = len(items)
        entered.release()
        assert let.acquire(timeout=10)
        beside[0] = 0
        return twice(items)

    def take() -> str:
        if beside[0] > 1:
            refused.release()
            raise OutOfDeviceMemoryError("no room")
        return "taken"

    with Batcher(embed, 2) as batcher:
        threads = [start(list, batcher.map(numbered([0])))]
        entered.acquire()
        threads += [start(list, batcher.map(numbered([1, 2])))]
        eventually(partial(has_pending, batcher, 2))
        let.release()
        entered.acquire()  # a batch of two is in the model
        for _ in range(2):  # when the second comes, batches are single already
            threads += [start(lambda: found.append(batcher.fit(take)))]
            refused.acquire()
            eventually(lambda: batcher._limit == 1)
        let.release()
        for thread in threads:
            thread.join()
    assert found == ["taken"] * 2


def test_windows_that_do_not_fit_beside_one_window_are_an_error() -> None:
    def take() -> None:
        raise OutOfDeviceMemoryError("never any room")

    with Batcher(twice, 4) as batcher, pytest.raises(OutOfDeviceMemoryError, match="never any"):
        batcher.fit(take)


def test_windows_of_an_abandoned_video_are_not_embedded() -> None:
    gate = Gate()

    def failing() -> Iterator[tuple[float, float]]:
        yield from numbered([10, 11])
        raise OSError("torn")

    with Batcher(gate, 2) as batcher:
        thread = start(list, batcher.map(numbered([1])))
        gate.entered.acquire()
        with pytest.raises(OSError, match="torn"):
            list(batcher.map(failing()))
        gate.open.set()
        thread.join()
        left = batcher.map(numbered(range(100, 200)))
        next(left)
        left.close()
        assert len(list(batcher.map(numbered([2])))) == 1
    embedded = list(chain.from_iterable(gate.batches))
    assert 10 not in embedded
    assert max(embedded) <= 105  # two batches and the next one


def test_closing_ends_the_thread_and_wakes_waiting_callers() -> None:
    before = set(threading.enumerate())
    gate = Gate()
    batcher = Batcher(gate, 1)
    errors = []

    def work() -> None:
        try:
            list(batcher.map(numbered(range(9))))
        except RuntimeError as error:
            errors.append(str(error))

    thread = start(work)
    gate.entered.acquire()
    eventually(partial(has_pending, batcher, 1))
    closing = start(batcher.close)
    eventually(partial(has_pending, batcher, 0))
    gate.open.set()
    closing.join()
    thread.join()
    assert errors == ["The encoder was closed while a video was being encoded with it."]
    assert not any(thread.name == "model" for thread in set(threading.enumerate()) - before)
    with pytest.raises(RuntimeError, match="was closed"):
        next(batcher.map(numbered([1])))
    batcher.close()


def test_a_batcher_that_was_never_used_has_no_thread() -> None:
    before = threading.active_count()
    Batcher(twice, 2).close()
    assert threading.active_count() == before


def test_a_wrong_number_of_results_is_an_error() -> None:
    few: Batcher[float] = Batcher(lambda items: twice(items)[1:], 4)
    with few, pytest.raises(ValueError, match="0 results for 1 windows"):
        list(few.map(numbered([1])))


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 window, not 0"):
        Batcher(twice, 0)
