from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Searched for, not imported: torchvision can be imported only after tiny_models.
for package in ("torch", "transformers", "torchvision", "timm", "num2words"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

from tiny_models import MAKERS  # noqa: E402, I001 - before transformers

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from action100m.inference import (  # noqa: E402
    EngineStoppedError,
    Outcome,
    Request,
)
from action100m.inference.transformers import engine as engine_module  # noqa: E402
from action100m.inference.transformers import open_transformers  # noqa: E402
from ask_transformers import ask, configured, question  # noqa: E402


def test_a_waiting_request_can_be_cancelled(opened: Any, batches: Any) -> None:
    with opened("qwen3", batch=1) as engine:
        futures = [engine.submit(question(f"{k}", max_tokens=60)) for k in range(6)]
        given_up = futures[3:5]
        assert all(future.cancel() for future in given_up)
        done, _ = wait(futures, timeout=120)
        assert len(done) == len(futures)
        kept = [f.result().id for f in futures if not f.cancelled()]
    assert kept == ["0", "1", "2", "5"]
    assert sum(map(len, batches)) == 4


def test_a_running_request_can_be_cancelled(
    opened: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = signal_when_running(monkeypatch)
    with opened("qwen3", batch=2) as engine:
        long = engine.submit(question("long", max_tokens=10**6))
        assert running.wait(60)
        assert long.cancel()
        assert ask(engine, [question("short")])[0].outcome is Outcome.TRUNCATED
    assert len(batches[0][0]) < 1500  # fewer than the 2,000 that fit into the context


def test_closing_cancels_all_requests(
    opened: Any, batches: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = signal_when_running(monkeypatch)
    with opened("qwen3", batch=2) as engine:
        futures = [engine.submit(question(f"{k}", max_tokens=10**6)) for k in range(5)]
        assert running.wait(60)
    futures.append(engine.submit(question("late")))
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    assert len(batches) == 1
    assert len(batches[0][0]) < 1500


def signal_when_running(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that is set once some tokens of an answer are written."""
    from action100m.inference.transformers import generation  # noqa: PLC0415

    running = threading.Event()
    true = generation.Draw.__call__

    def draw(self: Any, ids: Any, scores: Any) -> Any:
        if ids.shape[1] > self._length + 3:
            running.set()
        return true(self, ids, scores)

    monkeypatch.setattr(generation.Draw, "__call__", draw)
    return running


class Faulty:
    """A device on which `generate` fails occasionally."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[Any]], None]) -> None:
        self.sizes: list[int] = []
        true = engine_module.generate

        def generate(loaded: Any, rows: Any) -> list[list[int]]:
            self.sizes.append(len(rows))
            fault(rows)
            return true(loaded, rows)

        monkeypatch.setattr(engine_module, "generate", generate)


def test_running_out_of_memory_halves_the_batch(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: list[Any]) -> None:
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    device = Faulty(monkeypatch, fault)
    with opened("qwen3", batch=8) as engine:
        results = [result for _ in range(2) for result in ask(engine, numbered(16))]
    assert {result.outcome for result in results} == {Outcome.TRUNCATED}
    assert max(device.sizes) > 2
    assert max(device.sizes[-4:]) <= 2  # it has learned the limit


def test_only_the_faulty_request_of_a_batch_fails(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(rows: list[Any]) -> None:
        if any(row.sampling.seed == 13 for row in rows):
            raise RuntimeError("The size of\ntensor a must match.")

    Faulty(monkeypatch, fault)
    requests = [*numbered(7), question("q7", seed=13)]
    with opened("qwen3", batch=8) as engine:
        results = ask(engine, requests)
    assert [result.outcome.value for result in results] == ["truncated"] * 7 + ["failed"]
    assert results[7].reason == "RuntimeError: The size of tensor a must match."


def test_a_lost_device_stops_the_engine(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(rows: list[Any]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    Faulty(monkeypatch, fault)
    with opened("qwen3", batch=2) as engine:
        futures = [engine.submit(request) for request in numbered(6)]
        for future in (*futures, engine.submit(question("late"))):
            with pytest.raises(EngineStoppedError, match="illegal memory access"):
                future.result(timeout=60)


def numbered(count: int) -> list[Request]:
    return [question(f"q{k}") for k in range(count)]


def break_(folder: Path, how: str) -> None:
    if how == "pickled":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif how == "no template":
        (folder / "chat_template.jinja").unlink()
    elif how == "no words":
        (folder / "config.json").write_text('{"model_type": "vjepa2"}')
    elif how == "a weight is missing":
        weights = load_file(folder / "model.safetensors")
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    elif how == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("pickled", "cannot be loaded as a chat model: Error no file named model.safetensors"),
        ("no template", "has no chat template"),
        ("no words", "cannot be loaded as a chat model: Unrecognized"),
        ("truncated", "cannot be loaded as a chat model: Error while deserializing"),
        ("a weight is missing", r"lacks 1 weights, such as model\.layers\.1\.mlp\.up_proj\.weight"),
    ],
)
def test_unusable_checkpoints_are_refused(how: str, message: str, tmp_path: Path) -> None:
    break_(MAKERS["qwen3"](tmp_path), how)
    with pytest.raises(ValueError, match=message), open_transformers(configured(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:99"}, "There is no device 'cuda:99'"),
        ({"device": "gpu"}, "is not a device"),
        ({"model": "/nowhere"}, "There is no folder /nowhere"),
        ({"revision": "main"}, "has no revision"),
    ],
)
def test_unavailable_settings_are_errors(changes: Any, message: str, checkpoint: Any) -> None:
    config = configured(checkpoint("qwen3"), **changes)
    with pytest.raises(ValueError, match=message), open_transformers(config):
        pass
