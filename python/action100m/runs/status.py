"""Human-readable status of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from action100m.runs.costs import Costs, describe_costs, describe_unfinished, read_costs
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest
from action100m.runs.settings import Settings, read_settings
from action100m.runs.states import State, count_states, find_states
from action100m.text import counted

_MOST = 20  # failures that are listed

_MEANING = {
    State.DONE: "",
    State.FAILED: "the next run tries them again",
    State.STALE: "done with another configuration or an earlier file; the next run repeats them",
    State.PENDING: "the next run processes them, once the stages before have",
    State.SKIPPED: "not done, and their files no longer exist",
}


def describe_run(out: Path) -> Iterator[str]:
    """Yield human-readable lines: states, failures and their reasons, costs, and output paths.

    Raises:
        UsageError: `out` is not a run folder.
        ConfigError: its run.toml cannot be used.
        RunStoppedError: a part is damaged.
    """
    folder = RunFolder(out)
    settings = read_settings(folder)
    manifest = Manifest(folder)
    yield f"{out}: {counted(len(manifest.videos), 'video')}"
    for stage in settings.keys:
        states = find_states(folder, manifest, stage)
        for state, count in count_states(states).items():
            if count or state is State.DONE:
                meaning = f"  ({_MEANING[state]})" if _MEANING[state] else ""
                yield f"  {stage.name:<10}{state.value:<8}{count:>8}{meaning}"
        yield from _failures(folder, manifest, stage, states)
        yield from _skipped(manifest, states)
    for stage in settings.keys[1:]:
        costs = Costs()
        for _, found in read_costs(folder, manifest, stage):
            costs.add(found)
        for line in (*describe_costs(costs), *describe_unfinished(folder, manifest, stage)):
            yield f"  {stage.name:<10}{line}"
    shards = sorted(folder.data.glob("*.parquet"))
    if shards:
        yield f"Dataset: {folder.data} ({counted(len(shards), 'Parquet file')})"
        yield from _left_out(settings)
    if (folder.report / "index.html").exists():
        yield f"Report: {folder.report / 'index.html'}"


def _left_out(settings: Settings) -> Iterator[str]:
    """Say which fields are null because no model is configured, and how to configure it."""
    captioning = settings.config.captioning
    missing = {
        "captioning.segments": None if captioning.segments else "plm_caption, plm_action",
        "captioning.leaves": None if captioning.leaves else "llama3_caption",
        "aggregation": None if settings.config.aggregation.model else "gpt",
    }
    tables = [f"[{table}.model]" for table, fields in missing.items() if fields]
    fields = [fields for fields in missing.values() if fields]
    if tables:
        yield (
            f"{', '.join(fields)}: null, as no model is configured. Set one with --profile, or in "
            f"{', '.join(tables)} (docs/captions.md)."
        )


def _failures(
    folder: RunFolder, manifest: Manifest, stage: StageKey, states: dict[str, State]
) -> Iterator[str]:
    failed = [video for video in manifest.videos if states[video.uid] is State.FAILED]
    for video in failed[:_MOST]:
        reason = folder.read_failure(stage, video.key).reason
        yield f"  failed: {video.path}: {reason}"
    if len(failed) > _MOST:
        yield f"  … and {len(failed) - _MOST} more; the report lists them all."


def _skipped(manifest: Manifest, states: dict[str, State]) -> Iterator[str]:
    gone = [video.path for video in manifest.videos if states[video.uid] is State.SKIPPED]
    yield from (f"  skipped: {path} does not exist" for path in gone[:_MOST])
    if len(gone) > _MOST:
        yield f"  … and {len(gone) - _MOST} more that do not exist."
