"""One encoding process per GPU: the run itself uses the first, a helper process each other one.

A helper runs only stage 1, on the videos of the run folder. Like all runs on one folder, it takes
videos that no other process has claimed; if it dies, the others take over its videos.
"""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from action100m.config import SegmentationConfig
from action100m.errors import ConfigError, RunStoppedError, UsageError
from action100m.processes import python_command
from action100m.runs.executors.local import run_stage
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.progress import StageProgress
from action100m.runs.segment_stage import open_segment_stage
from action100m.runs.settings import read_settings
from action100m.runs.states import TO_DO, find_states
from action100m.text import harmless
from action100m.trace import current_trace, tracing

_GRACE = 15.0  # seconds for a helper to stop its current work


def other_gpus(config: SegmentationConfig) -> list[str]:
    """Return all GPUs but the first, as CUDA_VISIBLE_DEVICES names them.

    Empty if the configuration names one GPU or needs none; device "cuda" means all GPUs.
    """
    if config.encoder == "descriptor" or config.vjepa2.device != "cuda":
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else [str(gpu) for gpu in range(count)])[1:count]


@contextmanager
def helpers(folder: RunFolder, gpus: list[str], workers: int, console: Console) -> Iterator[None]:
    """Run a helper process for stage 1 on each of these GPUs during the block.

    Args:
        folder: run folder, with its run.toml and manifest.
        gpus: see `other_gpus`.
        workers: number of videos that each process decodes at once.
        console: where failed helpers are reported.
    """
    with ExitStack() as running:
        for gpu in gpus:
            running.enter_context(_helper(folder, gpu, workers, console))
        yield


@contextmanager
def _helper(folder: RunFolder, gpu: str, workers: int, console: Console) -> Iterator[None]:
    trace = current_trace()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as spans:
        passed = [spans.fileno()] if trace is not None else []
        process = subprocess.Popen(
            python_command(__name__, str(folder.root), workers, *passed),
            stdin=subprocess.PIPE,
            pass_fds=passed,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
        )
        try:
            yield
        finally:
            if code := _end(process):
                console.print(
                    f"The encoding process on GPU {gpu} exited with code {code}; its videos were "
                    "left to the other processes.",
                    highlight=False,
                    soft_wrap=True,
                )
            elif trace is not None:
                trace.add(spans, f"GPU {gpu}")


def _end(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    process.stdin.close()  # the process ends on this, see _end_with_the_run
    try:
        return process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end_with_the_run() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns when the run closes it: nothing is ever written
    _thread.interrupt_main()


def _help(folder: RunFolder, workers: int) -> None:
    config = read_settings(folder).config
    manifest = Manifest(folder)
    with open_segment_stage(config, folder) as stage:
        states = find_states(folder, manifest, stage.key)
        todo = [video for video in manifest.videos if states[video.uid] in TO_DO]
        sizes = {video.uid: video.size for video in todo}
        quiet = Console(quiet=True)
        with stage.loaded(), StageProgress(stage.key.name, sizes, quiet) as progress:
            run_stage(stage, todo, folder, workers, progress)


def main(root: str, workers: int, spans: int | None = None) -> int:
    """Help the run that started this process; save a trace to the file descriptor `spans`."""
    try:
        threading.Thread(target=_end_with_the_run, daemon=True).start()
        with _saved_to(spans):
            _help(RunFolder(Path(root)), workers)
    except KeyboardInterrupt:
        pass
    except (ConfigError, UsageError, RunStoppedError) as error:
        print(harmless(str(error)), file=sys.stderr)
        return 1
    return 0


@contextmanager
def _saved_to(spans: int | None) -> Iterator[None]:
    if spans is None:
        yield
        return
    with tracing() as trace, os.fdopen(spans, "w") as file:
        try:
            yield
        finally:
            trace.save(file)
