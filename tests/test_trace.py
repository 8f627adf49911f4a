"""Spans of work in threads, in stages, and in other processes."""

from __future__ import annotations

import io
import sys
import threading
import time
from dataclasses import replace
from types import ModuleType

import pytest

from action100m.device import release_memory
from action100m.trace import STAGES, current_trace, span, stage_span, tracing


def work(name: str) -> None:
    with span(name, frames=10) as figures:
        time.sleep(0.02)
        figures["windows"] = 2


def test_spans_of_all_threads_are_recorded() -> None:
    with tracing() as trace:
        thread = threading.Thread(target=work, args=("decode",), name="worker 7")
        thread.start()
        with stage_span("segment"):
            work("encode")
        thread.join()
    spans = {span.name: span for span in trace.spans}
    assert spans.keys() == {"decode", "encode", "segment"}
    assert spans["decode"].track == "worker 7"
    assert spans["decode"].seconds >= 0.02
    assert spans["encode"].figures == {"frames": 10, "windows": 2}
    assert spans["segment"].track == STAGES
    assert spans["segment"].start <= spans["encode"].start


def test_another_processs_spans_are_added_under_its_name() -> None:
    with tracing() as there:
        work("encode")
    file = io.StringIO()
    there.save(file)
    with tracing() as here:
        work("encode")
    here.add(file, "GPU 1")
    assert here.spans[1:] == [replace(there.spans[0], process="GPU 1")]


def test_nothing_is_recorded_outside_of_tracing() -> None:
    with tracing() as trace:
        pass
    assert current_trace() is None
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
