"""What a trace shows: numbers that a reader can check by hand, and a file that Perfetto reads."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from action100m.report.trace import summary, write_chrome_trace
from action100m.trace import PEAK, STAGES, Span, Trace

BEGIN = 1000.0


@pytest.fixture(autouse=True)
def after_100_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: BEGIN + 100.0)


@pytest.fixture
def trace() -> Trace:
    """A stage of 80 s on two GPUs of 2 TFLOP/s, and the export after it."""
    embed = {"windows": 10.0, "TFLOP": 40.0}
    spans = [
        Span(PEAK, "main", BEGIN + 1, 0.5, {"TFLOP": 1.0}),
        Span(PEAK, "main", BEGIN + 2, 0.5, {"TFLOP": 1.0}, "GPU 1"),
        Span(PEAK, "main", BEGIN + 3, 0.5, {}, "GPU 2"),  # it was interrupted
        Span("embed", "model", BEGIN + 10, 25.0, embed),
        Span("embed", "model", BEGIN + 10, 25.0, embed, "GPU 1"),
        Span("ward", "worker 0", BEGIN + 50, 1.0, {"video-seconds": 800.0}),
        Span("ward", "worker 0", BEGIN + 60, 1.0, {"video-seconds": 800.0}, "GPU 1"),
        Span("segment", STAGES, BEGIN, 80.0, {}),
        Span("export", STAGES, BEGIN + 80, 5.0, {}),
    ]
    return Trace(BEGIN, spans)


def line_of(trace: Trace, first: str) -> str:
    (line,) = (line for line in summary(trace) if line.startswith(first))
    return " ".join(line.split())


def test_a_stage_has_its_share_and_its_real_time_factor(trace: Trace) -> None:
    assert line_of(trace, "segment") == "segment 80.00 80.0% 20 times real time"
    assert line_of(trace, "export") == "export 5.00 5.0%"
    assert line_of(trace, "wall clock") == "wall clock 100.00"


def test_work_has_its_share_of_the_threads_and_its_rate_in_its_stage(trace: Trace) -> None:
    assert line_of(trace, "work").endswith("of 4 threads")
    assert line_of(trace, "embed  ") == "embed 2 50.00 12.5% 0.25 windows/s, 1 TFLOP/s"


def test_the_peak_is_that_of_all_devices(trace: Trace) -> None:
    assert line_of(trace, "embed reaches") == (
        "embed reaches 80.0% of the 2 TFLOP/s that a large matrix product reaches here, or 25.0% "
        "over the whole stage"
    )


def test_without_a_peak_nothing_is_compared_with_it(trace: Trace) -> None:
    trace.spans = [span for span in trace.spans if span.name != PEAK]
    assert not any("reaches" in line for line in summary(trace))


def test_an_empty_trace_has_a_summary() -> None:
    assert line_of(Trace(BEGIN), "wall clock") == "wall clock 100.00"


def test_every_process_and_thread_has_its_place_in_the_file(trace: Trace, tmp_path: Path) -> None:
    write_chrome_trace(trace, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {
        (e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"
    }
    spans = [e for e in events if e["ph"] == "X"]
    assert [processes[e["pid"]] for e in spans] == [span.process for span in trace.spans]
    assert [threads[e["pid"], e["tid"]] for e in spans] == [span.track for span in trace.spans]
    embed = spans[3]
    assert (embed["ts"], embed["dur"]) == (10e6, 25e6)
    assert embed["args"] == {"windows": 10, "TFLOP": 40}
