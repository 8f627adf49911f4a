"""Run in this process, and look at what the run left."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

import action100m
from action100m.config import Config
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.run import RunResult
from action100m.runs.segment_stage import open_segment_stage
from action100m.runs.states import State, find_states


def run(
    videos: Path | list[Path], out: Path, config: Config | None = None, workers: int = 2
) -> tuple[RunResult, str]:
    """Run, and return the result and what was printed."""
    text = io.StringIO()
    inputs = videos if isinstance(videos, list) else [videos]
    result = action100m.run(
        inputs, out, config, workers=workers, console=Console(file=text, width=200)
    )
    return result, text.getvalue()


def dataset(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "data").iterdir()}


def states(out: Path, config: Config) -> dict[str, State]:
    folder = RunFolder(out)
    with open_segment_stage(config, folder) as stage:
        return find_states(folder, Manifest(folder), stage.key)
