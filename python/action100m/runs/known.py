"""Answers that a run folder holds from other configurations."""

from __future__ import annotations

from action100m.inference.answers import Answer, Journal, final_answers
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video


def known_answers(folder: RunFolder, stage: StageKey, video: Video) -> dict[str, Answer]:
    """Return answers about a video that `stage` may reuse, by the key of the question."""
    known: dict[str, Answer] = {}
    for other in folder.others(stage):
        if folder.part(other, video.key).exists():
            known |= final_answers(folder.read_part(other, video.key))
        known |= Journal(folder.journal(other, video.key)).read()
    return known
