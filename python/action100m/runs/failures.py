"""Why videos failed, for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video


@dataclass(frozen=True)
class Failure:
    """One video's recorded failure.

    Attributes:
        reason: a sentence.
        coverage: share of the frames that could be decoded, where that was the reason.
        attempts: over all runs.
        record: the file with the traceback.
    """

    reason: str
    coverage: float | None
    attempts: int
    record: Path


def read_failure(folder: RunFolder, stage: StageKey, video: Video) -> Failure:
    """The failure of a video that is in the state failed."""
    record = folder.read_failure(stage, video.key)
    return Failure(
        reason=record.get("reason", "The record of this failure cannot be read."),
        coverage=record.get("coverage"),
        attempts=record.get("attempts", 0),
        record=folder.failure(stage, video.key),
    )
