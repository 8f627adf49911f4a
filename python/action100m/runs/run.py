"""A run: find the videos, do what is not done, export."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tomli_w
from rich.console import Console

from action100m.config import Config, available_cpus, parse_config, read_toml
from action100m.files import write_text
from action100m.runs.discovery import find_videos
from action100m.runs.errors import NothingToDoError
from action100m.runs.executors.local import run_stage
from action100m.runs.export import export
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.progress import StageProgress
from action100m.runs.stages import SegmentStage, Stage
from action100m.runs.states import State, find_states

_TO_DO = (State.PENDING, State.STALE, State.FAILED)
_LIBRARIES = ("action100m", "av", "numpy", "pillow", "pyarrow")


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        counts: videos in each state of the last stage.
        shards: the exported Parquet files; empty if no video is done.
    """

    counts: dict[State, int]
    shards: list[Path]

    @property
    def exit_code(self) -> int:
        """0 all done, 1 nothing could be done, 3 some videos failed."""
        if not self.counts[State.DONE]:
            return 1
        return 3 if self.counts[State.FAILED] else 0


def run(
    videos: Iterable[str | Path],
    out: str | Path,
    config: Config | None = None,
    *,
    workers: int | None = None,
    console: Console | None = None,
) -> RunResult:
    """Turn videos into a dataset of segment trees; go on where an earlier run stopped.

    Args:
        videos: files, folders and globs; none: those that the run folder already knows.
        out: the run folder, made if it is not there.
        config: default: that of the run folder, else the built-in one.
        workers: videos at once; default: one per available CPU.
        console: where progress goes; default: standard error.

    Raises:
        UsageError: an input names nothing, or two files have one uid.
        NothingToDoError: the inputs hold no video.
        ConfigError: the run folder's configuration cannot be read.
        OSError: the run folder cannot be written.
        RunStoppedError: it could no longer be written.
    """
    console = console or Console(stderr=True)
    folder = RunFolder(Path(out))
    paths = find_videos(videos, leave_out=folder.root)
    config = config or read_config(folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(folder)
    for problem in manifest.add(paths):
        console.print(f"Sidecar ignored: {problem}", highlight=False, markup=False)
    if not manifest.videos:
        raise NothingToDoError("No video was found: give files, folders or globs that hold some.")
    stage = SegmentStage(config)
    write_config(folder, config, stage)
    folder.sweep()
    _finish_stage(stage, folder, manifest, workers or available_cpus(), console)
    shards = export(folder, manifest, config)
    return RunResult(find_states(folder, manifest, stage.key).count(), shards)


def _finish_stage(
    stage: Stage, folder: RunFolder, manifest: Manifest, workers: int, console: Console
) -> None:
    states = find_states(folder, manifest, stage.key).states
    todo = [video for video in manifest.videos if states[video.uid] in _TO_DO]
    already = len(manifest.videos) - len(todo)
    if already:
        console.print(f"{stage.key.name}: {already} videos need nothing", highlight=False)
    if todo:
        sizes = {video.uid: video.size for video in todo}
        with StageProgress(stage.key.name, sizes, console) as progress:
            run_stage(stage, todo, folder, workers, progress)


def read_config(folder: RunFolder) -> Config:
    """The configuration that the run folder was made with; the default for a new one.

    Raises:
        ConfigError: run.toml cannot be read.
    """
    if not folder.config_file.exists():
        return Config()
    values = read_toml(folder.config_file)
    return parse_config(values.get("config", {}), folder.config_file)


def write_config(folder: RunFolder, config: Config, stage: Stage) -> None:
    """Write run.toml: enough to repeat the run."""
    values = {
        "config": config.model_dump(mode="json"),
        "stages": {stage.key.name: {"fingerprint": stage.key.fingerprint, **stage.identity}},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
    }
    write_text(folder.config_file, tomli_w.dumps(values))
