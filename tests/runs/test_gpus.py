"""The processes that encode on the other GPUs; they also work without a GPU."""

from __future__ import annotations

import io
import subprocess
import time
from pathlib import Path

import pytest
from rich.console import Console

from action100m.config import SegmentationConfig
from action100m.processes import python_command
from action100m.runs.executors.gpus import helpers, other_gpus
from action100m.runs.folder import RunFolder
from action100m.trace import tracing
from command import call
from synthetic import write_video


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    """A run folder with four videos, of which one is done."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed in range(4):
        write_video(folder / f"v{seed}.mp4", [2.0, 3.0], size=(320, 180), seed=seed)
    run = RunFolder(tmp_path / "run")
    assert call("run", folder, "--out", run.root).returncode == 0
    for part in parts(run)[1:]:
        part.unlink()
    return run


def parts(run: RunFolder) -> list[Path]:
    return sorted((run.root / "parts").rglob("[!.]*.parquet"))


def test_helpers_process_remaining_videos_and_end_with_the_run(begun: RunFolder) -> None:
    output = io.StringIO()
    deadline = time.monotonic() + 60
    with tracing() as trace, helpers(begun, ["1", "2"], 1, Console(file=output)):
        while len(parts(begun)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert output.getvalue() == ""
    commits = [span for span in trace.spans if span.name == "commit"]
    assert len(commits) == 3
    assert {span.process for span in commits} <= {"GPU 1", "GPU 2"}
    assert call("status", begun.root).returncode == 0


def test_a_helper_exits_when_the_run_exits(begun: RunFolder) -> None:
    words = python_command("action100m.runs.executors.gpus", str(begun.root), 1)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_helper_that_fails_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, said = io.StringIO(), ""
    deadline = time.monotonic() + 60
    with helpers(RunFolder(tmp_path), ["3"], 1, Console(file=output, width=200)):
        while "is not a run folder" not in said:
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
            said += capfd.readouterr().err
        time.sleep(1)  # it only has to exit now
    assert "encoding process on GPU 3 exited with code 1" in output.getvalue()


def test_one_gpu_or_none_needs_no_helpers() -> None:
    assert other_gpus(SegmentationConfig()) == []
    table = {"encoder": "vjepa2_torch", "vjepa2": {"device": "cuda:1"}}
    assert other_gpus(SegmentationConfig.model_validate(table)) == []


def test_every_gpu_that_is_visible_gets_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    config = SegmentationConfig.model_validate({"encoder": "vjepa2_torch"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert other_gpus(config) == ["1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8932f937,6")
    assert other_gpus(config) == ["GPU-8932f937", "6"]
