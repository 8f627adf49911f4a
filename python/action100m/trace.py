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
from dataclasses import dataclass, field
from pathlib import Path

from action100m.device import cuda_in_use
from action100m.files import write_text


@dataclass
class Trace:
    """The spans that `tracing` recorded.

    Attributes:
        spans: name, thread, start and duration in seconds, and the figures of each span.
    """

    begin: float = field(default_factory=time.perf_counter)
    spans: list[tuple[str, str, float, float, dict[str, float]]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the Chrome trace event format, which Perfetto and chrome://tracing open."""
        threads = {thread: number for number, thread in enumerate(self._threads())}
        events: list[dict[str, object]] = [
            {"ph": "M", "pid": 0, "tid": number, "name": "thread_name", "args": {"name": thread}}
            for thread, number in threads.items()
        ]
        events += [
            {
                "ph": "X",
                "pid": 0,
                "tid": threads[thread],
                "name": name,
                "ts": round((start - self.begin) * 1e6, 1),
                "dur": round(seconds * 1e6, 1),
                "args": figures,
            }
            for name, thread, start, seconds, figures in self.spans
        ]
        write_text(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))

    def summary(self) -> Iterator[str]:
        """Yield lines with the seconds of each kind of work, its share, and figures per second."""
        wall = time.perf_counter() - self.begin
        lanes = max(1, len(self._threads()))
        yield f"{'work':<16}{'calls':>9}{'seconds':>10}{'share':>8}   of {lanes} threads"
        totals = self._totals()
        for name, (calls, seconds, figures) in sorted(totals.items(), key=lambda t: -t[1][1]):
            rates = ", ".join(f"{total / wall:.4g} {what}/s" for what, total in figures.items())
            share = seconds / (wall * lanes)
            yield f"{name:<16}{calls:>9}{seconds:>10.2f}{share:>8.1%}   {rates}".rstrip()
        yield f"{'wall clock':<25}{wall:>10.2f}"

    def _threads(self) -> list[str]:
        return list(dict.fromkeys(thread for _, thread, *_ in self.spans))

    def _totals(self) -> dict[str, tuple[int, float, dict[str, float]]]:
        totals: dict[str, tuple[int, float, dict[str, float]]] = {}
        for name, _, _, seconds, figures in self.spans:
            calls, spent, sums = totals.get(name, (0, 0.0, {}))
            for what, amount in figures.items():
                sums[what] = sums.get(what, 0.0) + amount
            totals[name] = calls + 1, spent + seconds, sums
        return totals


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


@contextmanager
def span(name: str, **figures: float) -> Iterator[dict[str, float]]:
    """Mark work of one kind.

    Args:
        name: a kind of work, such as "decode".
        figures: amounts of work done, such as frames=32; more can be added to the yielded dict.
    """
    trace, start = _recording, time.perf_counter()
    cuda = cuda_in_use()
    if cuda is not None:
        cuda.nvtx.range_push(name)
    try:
        yield figures
    finally:
        if cuda is not None:
            cuda.nvtx.range_pop()
        if trace is not None:
            seconds = time.perf_counter() - start
            trace.spans.append((name, threading.current_thread().name, start, seconds, figures))
