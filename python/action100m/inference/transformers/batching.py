"""Choose which requests are answered together: similar ones, the longest waiting first."""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from action100m.inference.engine import Clip, Image, Request, Result, Text

_SHORT = 1024  # characters: padding this much costs almost nothing


@dataclass(eq=False)
class Job:
    """A pending request. The thread that takes it from the queue settles it, once.

    Attributes:
        request: the question.
        future: future of the answer.
        kind: jobs of one kind can be answered together.
        prepared: what the model reads, once it is prepared.
        settled: whether the future has its result.
    """

    request: Request
    future: Future[Result] = field(default_factory=Future)
    prepared: Any = None
    settled: bool = False

    def __post_init__(self) -> None:
        self.kind = kind_of(self.request)

    def settle(self, result: Result) -> None:
        """Set the answer, unless the future was cancelled."""
        self.settled = True
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def abandon(self, error: Exception | None) -> None:
        """End the job without an answer: cancelled, or with an error."""
        self.settled = True
        if error is None:
            self.future.cancel()
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


def kind_of(request: Request) -> Hashable:
    """Return a value that is equal for requests with equal picture shapes and similar lengths.

    Similar: texts that are short or within a factor of the square root of 2, which bounds what
    padding costs; answers within a factor of 2.
    """
    shown: list[tuple[int, ...]] = []
    letters = 0
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text):
                letters += len(part.text)
            elif isinstance(part, Image):
                shown.append(part.pixels.shape)
            elif isinstance(part, Clip):
                shown.append((len(part.frames), *part.frames[0].shape))
    length = round(2 * math.log2(max(letters, _SHORT)))
    return tuple(shown), length, request.sampling.max_tokens.bit_length()


def next_batch(jobs: Sequence[Job], size: int) -> list[Job]:
    """Return the first job and the next of its kind; later arrivals never displace earlier ones."""
    return [job for job in jobs if job.kind == jobs[0].kind][:size] if jobs else []


class JobQueue:
    """Queue between callers, one thread that prepares jobs and one that answers them.

    Only the next two batches are prepared, as pixels take memory.
    """

    def __init__(self, size: int) -> None:
        """`size`: maximum number of jobs in a batch."""
        self._size = size
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the queue is closed: no more jobs are answered."""
        return self._closed

    def put(self, job: Job) -> bool:
        """Add a job; return False if the queue is closed."""
        with self._changed:
            if not self._closed:
                self._jobs.append(job)
                self._changed.notify_all()
            return not self._closed

    def to_prepare(self) -> Job | None:
        """Wait for the next job to prepare, and leave it in the queue; return None if closed."""
        with self._changed:
            while not self._closed:
                self._forget_cancelled()
                soon = next_batch(self._jobs, self._size)
                later = next_batch([job for job in self._jobs if job not in soon], self._size)
                for job in (*soon, *later):
                    if job.prepared is None:
                        return job
                self._changed.wait()
            return None

    def prepared(self, job: Job, prepared: Any) -> None:
        """Store what the model reads for a job, which is then ready."""
        with self._changed:
            job.prepared = prepared
            self._changed.notify_all()

    def remove(self, job: Job) -> bool:
        """Remove a job that cannot be prepared; return False if it is already gone."""
        with self._changed:
            if job not in self._jobs:
                return False
            self._jobs.remove(job)
            self._changed.notify_all()
            return True

    def take(self) -> list[Job]:
        """Wait until the next batch is ready, and take it; return [] if closed."""
        with self._changed:
            while not self._closed:
                self._forget_cancelled()
                batch = next_batch(self._jobs, self._size)
                if batch and all(job.prepared is not None for job in batch):
                    self._jobs = [job for job in self._jobs if job not in batch]
                    self._changed.notify_all()
                    return batch
                self._changed.wait()
            return []

    def close(self) -> list[Job]:
        """Close the queue, and return the jobs that are left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            left, self._jobs = self._jobs, []
            return left

    def _forget_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._jobs.remove(job)
            job.abandon(None)
