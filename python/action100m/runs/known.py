"""Answers that this run folder holds under other configurations."""

from __future__ import annotations

from action100m.inference.answers import Answer, Journal, final_answers
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Video


def known_answers(folder: RunFolder, stage: StageKey, video: Video) -> dict[str, Answer]:
    """By key: of questions about a video that `stage` may ask too."""
    known: dict[str, Answer] = {}
    for other in folder.others(stage):
        if folder.part(other, video.key).exists():
            known |= final_answers(folder.read_part(other, video.key))
        known |= Journal(folder.journal(other, video.key)).read()
    return known
