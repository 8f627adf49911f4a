"""Record where the time goes: spans of work, for Perfetto, Nsight and a one-screen summary.

Work is marked with `span`, which costs next to nothing unless `tracing` records it. If torch uses
a GPU, each span is also an NVTX range, so that Nsight Systems shows the same names with or without
`--trace`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import IO

from action100m.device import cuda_in_use

STAGES = "stages"
PEAK = "peak"
"""Work that only measures what the device can do: its TFLOP per second are the device's peak."""
VIDEO_SECONDS = "video-seconds"
"""The unit of finished video: divided by seconds, how many times faster than real time."""


@dataclass(frozen=True)
class Span:
    """Work of one kind, from its start to its end.

    Attributes:
        name: kind of work.
        track: the thread that did it; for a whole stage of a run, `STAGES`.
        start: seconds of `time.perf_counter`, whose zero the processes of a machine share on Linux.
        seconds: how long it took.
        figures: amounts of work done, by unit.
        process: the process that did it.
    """

    name: str
    track: str
    start: float
    seconds: float
    figures: dict[str, float]
    process: str = "run"


@dataclass
class Trace:
    """The spans that `tracing` recorded.

    Attributes:
        begin: when it started, in seconds of `time.perf_counter`.
        spans: what was recorded, in the order of the ends.
    """

    begin: float = field(default_factory=time.perf_counter)
    spans: list[Span] = field(default_factory=list)

    def save(self, file: IO[str]) -> None:
        """Write the spans for the process that calls `add`."""
        json.dump([asdict(span) for span in self.spans], file)

    def add(self, file: IO[str], process: str) -> None:
        """Add the spans that another process saved, under the name of that process."""
        file.seek(0)
        self.spans += [Span(**{**values, "process": process}) for values in json.load(file)]


_recording: Trace | None = None


@contextmanager
def tracing() -> Iterator[Trace]:
    """Record every span of this process until the end of the block."""
    global _recording  # noqa: PLW0603 (one recorder for all threads)
    trace = _recording = Trace()
    try:
        yield trace
    finally:
        _recording = None


def current_trace() -> Trace | None:
    """Return the trace that is being recorded; None outside of `tracing`."""
    return _recording


@contextmanager
def span(name: str, **figures: float) -> Iterator[dict[str, float]]:
    """Mark work of one kind.

    Args:
        name: a kind of work, such as "decode".
        figures: amounts of work done, such as frames=32; more can be added to the yielded dict.
    """
    with _marked(name, threading.current_thread().name, figures):
        yield figures


@contextmanager
def stage_span(name: str) -> Iterator[None]:
    """Mark a whole stage of a run, from loading its models to its last video."""
    with _marked(name, STAGES, {}):
        yield


@contextmanager
def _marked(name: str, track: str, figures: dict[str, float]) -> Iterator[None]:
    trace, start = _recording, time.perf_counter()
    cuda = cuda_in_use()
    if cuda is not None:
        cuda.nvtx.range_push(name)
    try:
        yield
    finally:
        if cuda is not None:
            cuda.nvtx.range_pop()
        if trace is not None:
            seconds = time.perf_counter() - start
            trace.spans.append(Span(name, track, start, seconds, figures))
