"""The engine that runs transformers models: one thread prepares, one answers in batches."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch

from action100m.config import TransformersConfig
from action100m.inference.engine import (
    EngineStoppedError,
    Outcome,
    Request,
    Result,
    Usage,
    outcome_of,
)
from action100m.inference.reasoning import answer_in
from action100m.inference.template import RequestError
from action100m.inference.transformers.batching import Job, JobQueue
from action100m.inference.transformers.generation import Row, generate
from action100m.inference.transformers.loading import Loaded, load
from action100m.inference.transformers.prompts import Prompt, read
from action100m.inference.transformers.schema import Grammars
from action100m.text import clean
from action100m.trace import span

_BATCHES = 4  # pending: one is answered, one is prepared, and two more to choose from
_WORDS = 300  # characters of an error's message that are passed on


@contextmanager
def open_transformers(config: TransformersConfig) -> Iterator[TransformersEngine]:
    """Load the model, and answer requests during the block.

    Raises:
        ValueError: the device is not available, or the checkpoint cannot be found or used.
        ImportError: the checkpoint needs a package that is not installed.
    """
    engine = TransformersEngine(load(config), config.batch)
    try:
        yield engine
    finally:
        engine.close()


class TransformersEngine:
    """An `Engine` whose model runs in this process."""

    def __init__(self, loaded: Loaded, batch: int) -> None:
        """`batch`: maximum number of requests that are answered at once."""
        self.capacity = _BATCHES * batch
        self.context_length = loaded.context_length
        self._loaded = loaded
        self._counter = copy.deepcopy(loaded.tokenizer)  # counting must not affect other threads
        self._counting = threading.Lock()
        self._grammars = Grammars(loaded)
        self._queue = JobQueue(batch)
        self._too_many: float = float("inf")  # tokens of a batch that did not fit on the device
        self._stopped: EngineStoppedError | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (("prepare", self._prepare_all), ("answer", self._answer_all))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> Future[Result]:
        job = Job(request)
        if not self._queue.put(job):
            job.abandon(self._stopped)
        return job.future

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        with self._counting:
            encoded = self._counter(list(texts), add_special_tokens=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def close(self) -> None:
        """Cancel all unanswered requests, running or not, and wait for the threads."""
        for job in self._queue.close():
            job.abandon(self._stopped)
        for thread in self._threads:
            thread.join()

    def _guard(self, work: Callable[[], None]) -> None:
        """Stop the engine if a thread ends with an error, so that nobody waits forever."""
        try:
            work()
        except Exception as error:
            self._stop(error)

    def _stop(self, error: Exception, jobs: Sequence[Job] = ()) -> None:
        """Stop the engine, and abandon `jobs` and all in the queue with the error."""
        self._stopped = EngineStoppedError(f"{self._loaded.name} cannot continue: {_words(error)}")
        for job in (*jobs, *self._queue.close()):
            job.abandon(self._stopped)

    def _prepare_all(self) -> None:
        while (job := self._queue.to_prepare()) is not None:
            try:
                with span("prompt"):
                    prepared = self._prepare(job)
            except Exception as error:
                if self._queue.remove(job):
                    self._fail(job, error)
            else:
                self._queue.prepared(job, prepared)

    def _prepare(self, job: Job) -> Prompt:
        prompt = read(self._loaded, job.request)
        self._matcher(job.request, prompt)  # an invalid schema fails here, not in a batch
        return prompt

    def _matcher(self, request: Request, prompt: Prompt) -> Any | None:
        if request.schema is None:
            return None
        return self._grammars.matcher(request.schema, prompt.opening, prompt.room)

    def _answer_all(self) -> None:
        if self._loaded.model.device.type == "cuda":
            torch.cuda.set_device(self._loaded.model.device)
        while jobs := self._queue.take():
            try:
                jobs.sort(key=lambda job: str(job.prepared.shapes))
                for _, similar in groupby(jobs, key=lambda job: job.prepared.shapes):
                    self._answer(list(similar))
            except Exception as error:
                self._stop(error, [job for job in jobs if not job.settled])

    def _answer(self, jobs: list[Job]) -> None:
        """Answer jobs in one batch, or in halves if that fails."""
        tokens = len(jobs) * max(job.prepared.length + job.prepared.room for job in jobs)
        error: Exception | None = None
        if len(jobs) == 1 or tokens < self._too_many:
            error = self._try(jobs)
            if error is None:
                return
        if len(jobs) == 1 and error is not None:
            self._fail(jobs[0], error)
            return
        if isinstance(error, torch.OutOfMemoryError):
            self._too_many = tokens
        for half in (jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]):
            self._answer(half)

    def _try(self, jobs: list[Job]) -> Exception | None:
        """Answer jobs in one batch, or return the error."""
        try:
            with span("generate", requests=len(jobs)):
                answers = generate(self._loaded, [self._row(job) for job in jobs])
        except torch.AcceleratorError:
            raise  # this process can no longer use the device
        except Exception as error:
            # Its traceback would keep the batch's tensors in the memory of the device.
            failure = error.with_traceback(None)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            return failure
        for job, tokens in zip(jobs, answers, strict=True):
            self._settle(job, self._result(job, tokens))
        return None

    def _row(self, job: Job) -> Row:
        return Row(
            job.prepared,
            job.request.sampling,
            self._matcher(job.request, job.prepared),
            lambda: self._queue.closed or job.future.cancelled(),
        )

    def _result(self, job: Job, tokens: list[int]) -> Result:
        ended = bool(tokens) and tokens[-1] in self._loaded.ends
        text = answer_in(job.prepared.opening + self._decode(tokens[:-1] if ended else tokens))
        outcome, reason = outcome_of(text, cut_off=not ended)
        usage = Usage(prompt=job.prepared.length, completion=len(tokens))
        return Result(job.request.id, outcome, text, reason, usage)

    def _decode(self, tokens: list[int]) -> str:
        """Return the text, with control tokens only if they separate reasoning from the answer."""
        plain = not (self._loaded.template.harmony or self._loaded.template.thinks)
        return str(self._loaded.tokenizer.decode(tokens, skip_special_tokens=plain))

    def _fail(self, job: Job, error: Exception) -> None:
        usage = Usage(prompt=job.prepared.length) if job.prepared is not None else Usage()
        refused = isinstance(error, ValueError)  # by the template, or too long
        self._settle(
            job, Result(job.request.id, Outcome.FAILED, "", _words(error), usage, lasting=refused)
        )

    def _settle(self, job: Job, result: Result) -> None:
        if self._queue.closed:  # then the batch was cut short
            job.abandon(self._stopped)
        else:
            job.settle(result)


def _words(error: Exception) -> str:
    """Return an error's message; errors that are not ours begin with their type."""
    text = clean(str(error), _WORDS)
    return (
        text
        if type(error) in (ValueError, RequestError) and text
        else f"{type(error).__name__}: {text}"
    )
