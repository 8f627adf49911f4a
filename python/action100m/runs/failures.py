"""Human-readable reasons why videos failed."""

from __future__ import annotations

from dataclasses import dataclass

from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video


@dataclass(frozen=True)
class Failure:
    """One video's recorded failure.

    Attributes:
        reason: a sentence.
        coverage: share of the frames that could be decoded, if that was the reason; else None.
    """

    reason: str
    coverage: float | None


def read_failure(folder: RunFolder, stage: StageKey, video: Video) -> Failure:
    """Read the failure of a video in the state failed."""
    record = folder.read_failure(stage, video.key)
    return Failure(
        reason=record.get("reason", "The record of this failure cannot be read."),
        coverage=record.get("coverage"),
    )
