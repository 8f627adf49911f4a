"""The engine: one thread owns the model and makes batches of what waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass

from action100m.checkpoint import find_checkpoint
from action100m.config import TransformersConfig
from action100m.inference.engine import EngineStoppedError, Outcome, Request, Result
from action100m.inference.template import RequestError
from action100m.inference.transformers.model import ChatModel, OutOfMemoryError

_QUEUED_BATCHES = 4  # that a batch can choose from


@contextmanager
def open_transformers(config: TransformersConfig) -> Iterator[TransformersEngine]:
    """Load a model, and answer with it for the block.

    Raises:
        ValueError: the checkpoint or the device is not to be had.
        ImportError: the model's own processor needs a package that is not installed.
    """
    found = find_checkpoint(config.model, config.revision)
    engine = TransformersEngine(ChatModel(found, config.device, config.precision), config.batch)
    try:
        yield engine
    finally:
        engine.close()


@dataclass(frozen=True, eq=False)
class _Waiting:
    request: Request
    future: Future[Result]
    length: int  # tokens of its words


class TransformersEngine:
    """An `Engine` in this process.

    A batch holds requests alike: the one that has waited longest, and those with the same kind of
    pictures whose words are nearest to its in length. Answers do not depend on who else is in the
    batch, floating point apart.
    """

    def __init__(self, model: ChatModel, batch: int) -> None:
        self.capacity = _QUEUED_BATCHES * batch
        self.context_length = model.context_length
        self._model = model
        self._batch = batch
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._closed = False
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Result]:
        future: Future[Result] = Future()
        (length,) = self._model.count_tokens([self._model.words(request)])
        with self._changed:
            if self._closed:
                future.set_exception(self._end())
            else:
                self._waiting.append(_Waiting(request, future, length))
                self._changed.notify()
        return future

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._model.count_tokens(texts)

    def close(self) -> None:
        """Give up what waits and what runs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _end(self) -> BaseException:
        if self._trouble is None:
            return CancelledError()
        return EngineStoppedError(f"The model's thread ended: {self._trouble!r}.")

    def _work(self) -> None:
        try:
            while batch := self._take():
                self._answer(batch)
        except BaseException as error:  # it must reach those who wait
            self._trouble = error
        with self._changed:
            self._closed = True
            rest, self._waiting = self._waiting, []
        for waiting in rest:
            _settle(waiting.future, self._end())

    def _take(self) -> list[_Waiting]:
        """The next batch; empty once the engine is closed."""
        with self._changed:
            while True:
                self._waiting = [each for each in self._waiting if not each.future.cancelled()]
                if self._closed:
                    return []
                if self._waiting:
                    break
                self._changed.wait()
            first = self._waiting[0]
            kind = self._model.kind(first.request)
            alike = [each for each in self._waiting if self._model.kind(each.request) == kind]
            alike.sort(key=lambda each: abs(each.length - first.length))  # stable: `first` leads
            batch = alike[: self._batch]
            self._waiting = [each for each in self._waiting if each not in batch]
            return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            results = self._model.generate(
                [each.request for each in batch],
                lambda row: self._closed or batch[row].future.cancelled(),
            )
        except RequestError as error:
            self._split(batch, str(error))
        except OutOfMemoryError:
            self._split(batch, "The device's memory is too small for it.")
        else:
            for each, result in zip(batch, results, strict=True):
                _settle(each.future, CancelledError() if self._closed else result)

    def _split(self, batch: list[_Waiting], reason: str) -> None:
        """What failed together may work apart; what fails alone has failed."""
        if len(batch) > 1:
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                self._answer(half)
        else:
            (alone,) = batch
            _settle(alone.future, Result(alone.request.id, Outcome.FAILED, reason=reason))


def _settle(future: Future[Result], result: Result | BaseException) -> None:
    if isinstance(result, CancelledError):
        future.cancel()
        future.set_running_or_notify_cancel()
    elif future.set_running_or_notify_cancel():
        if isinstance(result, Result):
            future.set_result(result)
        else:
            future.set_exception(result)
