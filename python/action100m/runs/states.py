"""The five states of a video in a stage; these five words are used everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest, Video


class State(str, Enum):
    """State of a video in a stage."""

    DONE = "done"
    """Its part exists."""
    FAILED = "failed"
    """The last attempt failed and the reason is recorded; the next run tries again."""
    STALE = "stale"
    """Done only with another configuration or for an earlier version of the file."""
    PENDING = "pending"
    """Not tried yet, or interrupted."""
    SKIPPED = "skipped"
    """Not done, and its file, which the stage needs, no longer exists."""


TO_DO = (State.PENDING, State.STALE, State.FAILED)
"""States of the videos that a run processes."""


def count_states(states: Mapping[str, State]) -> dict[State, int]:
    """Return the number of videos in each state, including 0 for unused states."""
    counts = Counter(states.values())
    return {state: counts[state] for state in State}


def find_states(folder: RunFolder, manifest: Manifest, stage: StageKey) -> dict[str, State]:
    """Find the state of every video, by uid, from the files that exist, without opening them."""
    done = folder.done_keys(stage)
    failed = folder.failed_keys(stage)
    elsewhere = folder.done_keys_elsewhere(stage) | done
    left = [video for video in manifest.videos if video.key not in done]
    without_file = manifest.without_file(left) if stage.reads_files else set()

    def state(video: Video) -> State:
        if video.key in done:
            return State.DONE
        if video in without_file:
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
    """Return each video's state in the first stage in which it is not done."""
    states = {video.uid: State.DONE for video in manifest.videos}
    for stage in stages:
        found = find_states(folder, manifest, stage)
        states = {
            uid: found[uid] if state is State.DONE else state for uid, state in states.items()
        }
    return states
