"""How far a run is, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from action100m.runs.errors import UsageError
from action100m.runs.failures import read_failure
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.run import read_config
from action100m.runs.stages import SegmentStage
from action100m.runs.states import State, find_states

_MOST = 20  # failures that are spelled out

_MEANING = {
    State.DONE: "",
    State.FAILED: "the next run tries them again",
    State.STALE: "done with another configuration or an earlier file; the next run does them anew",
    State.PENDING: "the next run does them",
    State.SKIPPED: "not done, and their files are no longer there",
}


def open_run(out: Path) -> RunFolder:
    """The run folder at a path.

    Raises:
        UsageError: there is none.
    """
    folder = RunFolder(out)
    if not folder.config_file.is_file():
        raise UsageError(f"{out} is no run folder: it holds no run.toml.")
    return folder


def describe_run(out: Path) -> Iterator[str]:
    """Lines for a person: states, what failed and why, what stands where.

    Raises:
        UsageError: `out` is no run folder.
        ConfigError: its run.toml cannot be read.
    """
    folder = open_run(out)
    manifest = Manifest(folder)
    stage = SegmentStage(read_config(folder))
    states = find_states(folder, manifest, stage.key)
    yield f"{out}: {len(manifest.videos)} videos"
    for state, count in states.count().items():
        if count or state is State.DONE:
            meaning = f"  ({_MEANING[state]})" if _MEANING[state] else ""
            yield f"  {stage.key.name:<10}{state.value:<8}{count:>8}{meaning}"
    yield from _failures(folder, manifest, stage, states.states)
    shards = sorted(folder.data.glob("*.parquet"))
    if shards:
        yield f"Dataset: {folder.data} ({len(shards)} Parquet files)"
        yield "Captions and actions in it are null: no model is configured for them."
    if (folder.report / "index.html").exists():
        yield f"Report: {folder.report / 'index.html'}"


def _failures(
    folder: RunFolder, manifest: Manifest, stage: SegmentStage, states: dict[str, State]
) -> Iterator[str]:
    failed = [video for video in manifest.videos if states[video.uid] is State.FAILED]
    for video in failed[:_MOST]:
        failure = read_failure(folder, stage.key, video)
        yield f"  failed: {video.path}: {failure.reason}"
    if len(failed) > _MOST:
        yield f"  … and {len(failed) - _MOST} more; the report has them all."
