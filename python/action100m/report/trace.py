"""What a trace shows: a file for Perfetto, and a summary on one screen."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from action100m.files import write_text
from action100m.trace import PEAK, STAGES, VIDEO_SECONDS, Span, Trace


def write_chrome_trace(trace: Trace, path: Path) -> None:
    """Write the Chrome trace event format, which Perfetto and chrome://tracing open."""
    tracks = list(dict.fromkeys((span.process, span.track) for span in trace.spans))
    processes = list(dict.fromkeys(process for process, _ in tracks))
    places = {track: (processes.index(track[0]), number) for number, track in enumerate(tracks)}
    events = [_named("process_name", pid, 0, name) for pid, name in enumerate(processes)]
    events += [_named("thread_name", *places[track], track[1]) for track in tracks]
    events += [_event(span, trace.begin, *places[span.process, span.track]) for span in trace.spans]
    write_text(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, object]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}


def _event(span: Span, begin: float, pid: int, tid: int) -> dict[str, object]:
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": span.name,
        "ts": round((span.start - begin) * 1e6, 1),  # microseconds
        "dur": round(span.seconds * 1e6, 1),
        "args": span.figures,
    }


def summary(trace: Trace) -> Iterator[str]:
    """Yield lines: the share of each stage, of each kind of work, and of the device's peak.

    Rates are per second of the stages in which the work was done, from loading their models on.
    """
    wall = time.perf_counter() - trace.begin
    stages = [span for span in trace.spans if span.track == STAGES]
    work = _by_name(span for span in trace.spans if span.track != STAGES)
    peaks = [span for span in work.pop(PEAK, []) if "TFLOP" in span.figures]  # complete ones
    yield f"{'stage':<25}{'seconds':>10}{'share':>8}"
    for stage in stages:
        yield _stage_line(stage, work, wall)
    yield f"{'wall clock':<25}{wall:>10.2f}"
    threads = len({(span.process, span.track) for spans in work.values() for span in spans})
    yield f"{'work':<16}{'calls':>9}{'seconds':>10}{'share':>8}   of {threads} threads"
    for spans in sorted(work.values(), key=_seconds, reverse=True):
        yield _work_line(spans, _seconds(_around(spans, stages)) or wall, wall * threads)
    if peaks:
        yield from _peak_lines(stages, work, peaks)


def _stage_line(stage: Span, work: dict[str, list[Span]], wall: float) -> str:
    done = [span for spans in work.values() for span in spans if _is_within(span, stage)]
    seen = _figures(done).get(VIDEO_SECONDS, 0.0)
    speed = f"   {seen / stage.seconds:.4g} times real time" if seen else ""
    return f"{stage.name:<25}{stage.seconds:>10.2f}{stage.seconds / wall:>8.1%}{speed}"


def _work_line(spans: list[Span], period: float, available: float) -> str:
    figures = _figures(spans).items()
    rates = ", ".join(f"{amount / period:.4g} {unit}/s" for unit, amount in figures)
    seconds = _seconds(spans)
    line = (
        f"{spans[0].name:<16}{len(spans):>9}{seconds:>10.2f}{seconds / available:>8.1%}   {rates}"
    )
    return line.rstrip()


def _peak_lines(
    stages: list[Span], work: dict[str, list[Span]], peaks: list[Span]
) -> Iterator[str]:
    """Yield a line for each kind of work that counts its operations; `peaks`: one per device."""
    peak = statistics.mean(span.figures["TFLOP"] / span.seconds for span in peaks)
    for name, spans in work.items():
        done = _figures(spans).get("TFLOP", 0.0) / peak
        whole = _seconds(_around(spans, stages)) * len(peaks)
        if done and whole:
            yield (
                f"{name} reaches {done / _seconds(spans):.1%} of the {peak:.4g} TFLOP/s that a "
                f"large matrix product reaches here, or {done / whole:.1%} over the whole stage"
            )


def _by_name(spans: Iterable[Span]) -> dict[str, list[Span]]:
    named = defaultdict(list)
    for span in spans:
        named[span.name].append(span)
    return named


def _around(spans: list[Span], stages: list[Span]) -> list[Span]:
    """Return the stages in which any of the spans began."""
    return [stage for stage in stages if any(_is_within(span, stage) for span in spans)]


def _is_within(span: Span, stage: Span) -> bool:
    return stage.start <= span.start <= stage.start + stage.seconds


def _seconds(spans: list[Span]) -> float:
    return sum(span.seconds for span in spans)


def _figures(spans: list[Span]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for span in spans:
        for unit, amount in span.figures.items():
            totals[unit] += amount
    return totals
