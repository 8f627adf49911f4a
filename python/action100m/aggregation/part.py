"""What a part of stage 3 holds besides the annotations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from action100m.aggregation.annotation import UnusableAnswerError, read_annotation
from action100m.inference import Outcome

ANNOTATION = "gpt"
"""The field of a segment's annotation. A request of its round k is of the field "gpt.k"."""
LEFT_OUT = "left_out"
"""The field of what a segment's prompt leaves out for want of room, as a sentence."""


@dataclass(frozen=True)
class Effort:
    """What came of a video's segments, and how often each was gone over.

    Attributes:
        segments: that are to be annotated.
        annotated: that are.
        rounds: of refinement that were answered, after the drafts.
        corrections: requests in which the model was shown what is wrong with its answer.
        shortened: segments whose prompts leave something out.
    """

    segments: int = 0
    annotated: int = 0
    rounds: int = 0
    corrections: int = 0
    shortened: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.segments + other.segments,
            self.annotated + other.annotated,
            self.rounds + other.rounds,
            self.corrections + other.corrections,
            self.shortened + other.shortened,
        )


def read_effort(part: pa.Table) -> Effort:
    """Count the rows of a part; all 0 for one of another stage."""
    fields, nodes = part.column("field").to_pylist(), part.column("node").to_pylist()
    outcomes = part.column("outcome").to_pylist()
    annotated = [what for field, what in zip(fields, outcomes, strict=True) if field == ANNOTATION]
    asked = [
        (node, number, outcome)
        for field, node, outcome in zip(fields, nodes, outcomes, strict=True)
        if (number := _round_of(field)) is not None
    ]
    rounds = {(node, number) for node, number, _ in asked}
    answered = {(node, number) for node, number, outcome in asked if outcome == Outcome.COMPLETE}
    return Effort(
        segments=len(annotated),
        annotated=annotated.count(Outcome.COMPLETE),
        rounds=sum(number > 0 for _, number in answered),
        corrections=len(asked) - len(rounds),
        shortened=fields.count(LEFT_OUT),
    )


def kept_rounds(table: pa.Table) -> dict[int, list[Mapping[str, str] | None]]:
    """By node, each round's fields, the draft first; only of rounds whose answers were kept.

    A round that was corrected counts with its last answer; None where that cannot be used.
    """
    rounds: dict[int, dict[int, Mapping[str, str] | None]] = defaultdict(dict)
    for row in table.select(["field", "node", "text"]).to_pylist():
        number = _round_of(row["field"])
        if number is not None and row["text"] is not None:
            rounds[row["node"]][number] = _fields(row["text"])
    return {node: [found[k] for k in sorted(found)] for node, found in rounds.items()}


def _round_of(field: str) -> int | None:
    """Of a request, 0 for the draft; None: the row is of something else."""
    name, _, number = field.partition(".")
    return int(number) if name == ANNOTATION and number else None


def _fields(text: str) -> Mapping[str, str] | None:
    try:
        annotation = read_annotation(text)
    except UnusableAnswerError:
        return None
    return {
        f"{table}.{name}": value
        for table, fields in annotation.model_dump().items()
        for name, value in fields.items()
    }
