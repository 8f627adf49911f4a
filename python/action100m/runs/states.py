"""The five states of a video in a stage. Five different words everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest, Video


class State(str, Enum):
    """Where a video stands in a stage."""

    DONE = "done"
    """Its part stands."""
    FAILED = "failed"
    """It was tried and the reason is recorded; the next run tries again."""
    STALE = "stale"
    """Only an earlier configuration, or an earlier version of the file, is done."""
    PENDING = "pending"
    """Not tried yet, or interrupted."""
    SKIPPED = "skipped"
    """Not done, and its file, which that needs, is no longer there."""


TO_DO = (State.PENDING, State.STALE, State.FAILED)
"""What a run takes up."""


def count_states(states: Mapping[str, State]) -> dict[State, int]:
    """How many videos are in each state, every state named."""
    counts = Counter(states.values())
    return {state: counts[state] for state in State}


def find_states(folder: RunFolder, manifest: Manifest, stage: StageKey) -> dict[str, State]:
    """The state of every video in one stage, by uid, found from listings alone."""
    done = folder.done_keys(stage)
    failed = folder.failed_keys(stage)
    elsewhere = folder.done_keys_elsewhere(stage) | done

    def state(video: Video) -> State:
        if video.key in done:
            return State.DONE
        if stage.reads_files and not (video.path.exists() or video.path.is_symlink()):
            return State.SKIPPED
        if video.key in failed:
            return State.FAILED
        if video.key in elsewhere or not elsewhere.isdisjoint(manifest.earlier_keys(video)):
            return State.STALE
        return State.PENDING

    return {video.uid: state(video) for video in manifest.videos}


def find_overall_states(
    folder: RunFolder, manifest: Manifest, stages: Iterable[StageKey]
) -> dict[str, State]:
    """Each video's state in the first of the stages in which it is not done."""
    states = {video.uid: State.DONE for video in manifest.videos}
    for stage in stages:
        found = find_states(folder, manifest, stage)
        states = {
            uid: found[uid] if state is State.DONE else state for uid, state in states.items()
        }
    return states
