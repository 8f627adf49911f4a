"""Store answers: in a journal while a video is unfinished, as a table once it is done."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from action100m.config import fingerprint
from action100m.inference.engine import Outcome, Result, Usage

SCHEMA = pa.schema(
    [
        ("field", pa.string()),
        ("node", pa.int32()),
        ("key", pa.string()),
        ("outcome", pa.string()),
        ("text", pa.string()),
        ("reason", pa.string()),
        ("prompt", pa.int64()),
        ("cached", pa.int64()),
        ("completion", pa.int64()),
        ("retries", pa.int64()),
    ]
)
"""One row per question of a video: which field of which node (its number in the tree's order),
what was asked (`key`), how it ended, and what it cost in tokens."""

TEXT_COLUMNS = ["field", "node", "text"]
"""The columns that `texts` needs."""

_FILE = "answers.jsonl"
_FINAL = (Outcome.COMPLETE, Outcome.TRUNCATED, Outcome.REFUSED)


@dataclass(frozen=True)
class Answer:
    """Answer to a question.

    Attributes:
        key: key of the question, from `question_key`.
        outcome: how it ended.
        text: None unless the outcome is complete or truncated.
        reason: why it is not complete; "" if it is.
        usage: cost of all attempts together.
        lasting: whether the same question would fail in the same way again.
    """

    key: str
    outcome: Outcome
    text: str | None
    reason: str
    usage: Usage
    lasting: bool = False

    @classmethod
    def of(cls, key: str, result: Result, spent: Usage) -> Answer:
        """Return a result as an answer; `spent` is the cost of earlier attempts."""
        # A server's JSON may contain half a surrogate pair, which UTF-8 cannot encode.
        text = result.text.encode("utf-8", "replace").decode()
        usage = result.usage + spent
        return cls(key, result.outcome, text or None, result.reason, usage, result.lasting)

    @property
    def final(self) -> bool:
        """Whether asking again would be pointless."""
        return self.outcome in _FINAL


def question_key(question: Mapping[str, Any]) -> str:
    """Hash everything that determines an answer, given as JSON values, to 32 hex digits."""
    return fingerprint(question, digits=32)


class Journal:
    """The final answers of an unfinished video: one line of JSON each, synced when appended.

    Two processes may append to the same journal, as lines are independent.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: folder of one video, created with the first answer."""
        self._path = folder / _FILE
        self._descriptor: int | None = None

    def read(self) -> dict[str, Answer]:
        """Return the answers by key. Lines that a crash truncated are ignored."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        answers = (_parse(line) for line in lines)
        return {answer.key: answer for answer in answers if answer is not None}

    def append(self, answer: Answer) -> None:
        """Write an answer to the disk.

        Raises:
            OSError: the folder cannot be written.
        """
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(self._path, flags, 0o666)
        # The first newline separates it from a line that a crash may have truncated.
        line = b"\n" + json.dumps(asdict(answer), ensure_ascii=True).encode() + b"\n"
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _parse(line: bytes) -> Answer | None:
    try:
        values = json.loads(line)
        values["outcome"] = Outcome(values["outcome"])
        values["usage"] = Usage(**values["usage"])
        return Answer(**values)
    except (ValueError, TypeError, KeyError):
        return None


def to_table(answers: Iterable[tuple[str, int, Answer]]) -> pa.Table:
    """Return answers, given as (field, node, answer), as a table of `SCHEMA`."""
    rows = [
        {
            "field": field,
            "node": node,
            "key": answer.key,
            "outcome": answer.outcome.value,
            "text": answer.text,
            "reason": answer.reason,
            **asdict(answer.usage),
        }
        for field, node, answer in answers
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def final_answers(table: pa.Table) -> dict[str, Answer]:
    """Return the answers of a table that need not be asked for again, by key.

    Answers whose text was not kept are left out.
    """
    answers = (
        Answer(
            row["key"],
            Outcome(row["outcome"]),
            row["text"],
            row["reason"],
            Usage(row["prompt"], row["cached"], row["completion"], row["retries"]),
        )
        for row in table.to_pylist()
    )
    kept = (Outcome.COMPLETE, Outcome.TRUNCATED)
    return {
        answer.key: answer
        for answer in answers
        if answer.final and (answer.text is not None or answer.outcome not in kept)
    }


def texts(table: pa.Table, field: str, nodes: int) -> pa.StringArray:
    """Return the texts of one field by node; null for nodes without one.

    Args:
        table: the columns field, node and text of `SCHEMA`.
        field: name of the field.
        nodes: number of nodes.
    """
    rows = table.filter(pc.equal(table.column("field"), field))
    place = np.full(nodes, -1)
    place[rows.column("node").to_numpy()] = np.arange(len(rows))
    found = rows.column("text").combine_chunks()
    return found.take(pa.array(place, mask=place < 0))
