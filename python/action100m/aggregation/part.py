"""Read what a part of stage 3 holds besides the annotations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from action100m.aggregation.annotation import UnusableAnswerError, read_annotation
from action100m.inference import Outcome

ANNOTATION = "gpt"
"""The field of a segment's annotation. A request of its round k has the field "gpt.k"."""
LEFT_OUT = "left_out"
"""The field of the sentence that says what a segment's prompt leaves out for lack of room."""


@dataclass(frozen=True)
class Effort:
    """How many of a video's segments were annotated, and how much refinement they took.

    Attributes:
        segments: segments to annotate.
        annotated: segments that have an annotation.
        unrefined: annotations that lack rounds, as a later one got no usable answer.
        rounds: answered rounds of refinement, without the drafts.
        corrections: requests that show the model what is wrong with its answer.
        shortened: segments whose prompts leave something out.
    """

    segments: int = 0
    annotated: int = 0
    unrefined: int = 0
    rounds: int = 0
    corrections: int = 0
    shortened: int = 0

    def __add__(self, other: Effort) -> Effort:
        return Effort(
            self.segments + other.segments,
            self.annotated + other.annotated,
            self.unrefined + other.unrefined,
            self.rounds + other.rounds,
            self.corrections + other.corrections,
            self.shortened + other.shortened,
        )


def read_effort(part: pa.Table) -> Effort:
    """Count the effort in the rows of a part; all 0 for a part of another stage."""
    fields, nodes = part.column("field").to_pylist(), part.column("node").to_pylist()
    outcomes, reasons = part.column("outcome").to_pylist(), part.column("reason").to_pylist()
    annotated = [
        (outcome, reason)
        for field, outcome, reason in zip(fields, outcomes, reasons, strict=True)
        if field == ANNOTATION
    ]
    complete = [reason for outcome, reason in annotated if outcome == Outcome.COMPLETE]
    asked = [
        (node, number, outcome)
        for field, node, outcome in zip(fields, nodes, outcomes, strict=True)
        if (number := _round_of(field)) is not None
    ]
    rounds = {(node, number) for node, number, _ in asked}
    answered = {(node, number) for node, number, outcome in asked if outcome == Outcome.COMPLETE}
    return Effort(
        segments=len(annotated),
        annotated=len(complete),
        unrefined=sum(reason != "" for reason in complete),
        rounds=sum(number > 0 for _, number in answered),
        corrections=len(asked) - len(rounds),
        shortened=fields.count(LEFT_OUT),
    )


def kept_rounds(table: pa.Table) -> dict[int, list[Mapping[str, str] | None]]:
    """Return each round's fields by node, the draft first, for rounds whose answers were kept.

    A corrected round has the fields of its last answer, or None if that cannot be used.
    """
    rounds: dict[int, dict[int, Mapping[str, str] | None]] = defaultdict(dict)
    for row in table.select(["field", "node", "text"]).to_pylist():
        number = _round_of(row["field"])
        if number is not None and row["text"] is not None:
            rounds[row["node"]][number] = _fields(row["text"])
    return {node: [found[k] for k in sorted(found)] for node, found in rounds.items()}


def _round_of(field: str) -> int | None:
    """Return the round of a request, 0 for the draft; None for rows that are not requests."""
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
