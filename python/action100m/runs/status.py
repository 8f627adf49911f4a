"""How far a run is, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from action100m.runs.failures import read_failure
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest
from action100m.runs.settings import read_settings
from action100m.runs.states import State, find_states
from action100m.text import counted

_MOST = 20  # failures that are spelled out

_MEANING = {
    State.DONE: "",
    State.FAILED: "the next run tries them again",
    State.STALE: "done with another configuration or an earlier file; the next run does them anew",
    State.PENDING: "the next run does them",
    State.SKIPPED: "not done, and their files are no longer there",
}


def describe_run(out: Path) -> Iterator[str]:
    """Lines for a person: states, what failed and why, what stands where.

    Raises:
        UsageError: `out` is no run folder.
        ConfigError: its run.toml cannot be read.
    """
    folder = RunFolder(out)
    stage = read_settings(folder).key("segment")
    manifest = Manifest(folder)
    states = find_states(folder, manifest, stage)
    yield f"{out}: {counted(len(manifest.videos), 'video')}"
    for state, count in states.count().items():
        if count or state is State.DONE:
            meaning = f"  ({_MEANING[state]})" if _MEANING[state] else ""
            yield f"  {stage.name:<10}{state.value:<8}{count:>8}{meaning}"
    yield from _failures(folder, manifest, stage, states.states)
    shards = sorted(folder.data.glob("*.parquet"))
    if shards:
        yield f"Dataset: {folder.data} ({counted(len(shards), 'Parquet file')})"
        yield "Captions and actions in it are null: no model is configured for them."
    if (folder.report / "index.html").exists():
        yield f"Report: {folder.report / 'index.html'}"


def _failures(
    folder: RunFolder, manifest: Manifest, stage: StageKey, states: dict[str, State]
) -> Iterator[str]:
    failed = [video for video in manifest.videos if states[video.uid] is State.FAILED]
    for video in failed[:_MOST]:
        failure = read_failure(folder, stage, video)
        yield f"  failed: {video.path}: {failure.reason}"
    if len(failed) > _MOST:
        yield f"  … and {len(failed) - _MOST} more; the report has them all."
