"""What a part of stage 3 holds besides the annotations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from action100m.aggregation.annotation import UnusableAnswerError, read_annotation


def kept_rounds(table: pa.Table) -> dict[int, list[Mapping[str, str] | None]]:
    """By node, each round's fields, the draft first; only of rounds whose answers were kept.

    A round that was corrected counts with its last answer; None where that cannot be used.
    """
    rounds: dict[int, dict[int, Mapping[str, str] | None]] = defaultdict(dict)
    for row in table.select(["field", "node", "text"]).to_pylist():
        field, _, number = row["field"].partition(".")
        if field == "gpt" and number and row["text"] is not None:
            rounds[row["node"]][int(number)] = _fields(row["text"])
    return {node: [found[k] for k in sorted(found)] for node, found in rounds.items()}


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
