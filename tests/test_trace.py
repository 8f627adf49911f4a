"""Spans as a profiler reads them, and their summary."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from action100m.device import release_memory
from action100m.trace import span, tracing


def work(name: str) -> None:
    with span(name, frames=10) as figures:
        time.sleep(0.02)
        figures["windows"] = 2


def test_spans_of_all_threads_are_in_the_file(tmp_path: Path) -> None:
    with tracing() as trace:
        thread = threading.Thread(target=work, args=("decode",), name="worker 7")
        thread.start()
        work("encode")
        thread.join()
    trace.write(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = {event["name"]: event for event in events if event["ph"] == "X"}
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    assert spans.keys() == {"decode", "encode"}
    assert names[spans["decode"]["tid"]] == "worker 7"
    assert spans["decode"]["dur"] >= 20_000
    assert spans["encode"]["args"] == {"frames": 10, "windows": 2}


def test_the_summary_adds_up() -> None:
    with tracing() as trace:
        for _ in range(3):
            work("encode")
    text = "\n".join(trace.summary())
    assert "encode                  3" in text
    assert "windows/s" in text


def test_nothing_is_recorded_outside_of_tracing() -> None:
    with tracing() as trace:
        pass
    work("encode")
    assert trace.spans == []


def test_a_span_may_begin_while_another_thread_imports_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    work("decode")
    release_memory()
    monkeypatch.setattr(torch, "cuda", ModuleType("torch.cuda"), raising=False)
    work("decode")
    release_memory()
