"""The invariants of the published format, each as a function over a batch of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.columns import ORPHAN, ROOT, Batch, mask, present
from action100m.schema import (
    HUNDREDTHS,
    MIN_ANNOTATED,
    MIN_SEGMENT,
    NO_ACTION,
    to_hundredths,
)

# Both times of a segment were rounded, so its duration is known only to a hundredth.
_SHORTEST = round(MIN_SEGMENT * HUNDREDTHS) - 1
_NEVER_ANNOTATED = round(MIN_ANNOTATED * HUNDREDTHS) - 2
_ALWAYS_ANNOTATED = round(MIN_ANNOTATED * HUNDREDTHS) + 1


@dataclass(frozen=True)
class Breach:
    """A rule that is broken at some places of a batch.

    Attributes:
        rule: name of the rule.
        where: (k,) positions of the nodes; or of the rows, if `per_row`.
        say: returns the sentence for one of these positions.
    """

    rule: str
    where: NDArray[np.int64]
    say: Callable[[int], str]
    per_row: bool = False


def _nodes(rule: str, broken: NDArray[np.bool_], say: Callable[[int], str]) -> Breach:
    return Breach(rule, np.flatnonzero(broken), say)


def _rows(rule: str, broken: NDArray[np.bool_], say: Callable[[int], str]) -> Breach:
    return Breach(rule, np.flatnonzero(broken), say, per_row=True)


def uids(batch: Batch) -> Iterator[Breach]:
    """Every row has a video_uid."""
    empty = mask(pc.equal(batch.uid.fill_null(""), ""))
    yield _rows("video_uid", empty, lambda r: "video_uid is null or empty.")


def upload_dates(batch: Batch) -> Iterator[Breach]:
    """upload_date is a date, written as YYYYMMDD."""
    days = batch.upload_date
    wrong = np.fromiter((not _is_day(day) for day in days.to_pylist()), bool, len(days))
    yield _rows("upload_date", wrong, lambda r: f"upload_date {days[r]} is not a YYYYMMDD date.")


def _is_day(text: str | None) -> bool:
    if text is None:
        return True
    if not (len(text) == 8 and text.isascii() and text.isdigit()):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def transcripts(batch: Batch) -> Iterator[Breach]:
    """transcript[].time is a decimal string of seconds, in time order."""
    row, seconds = batch.lines.row, batch.lines.seconds
    later = np.zeros(len(row), bool)
    later[1:] = (row[1:] == row[:-1]) & (seconds[1:] < seconds[:-1])
    for broken, reason in (
        (np.isnan(seconds), "is not a decimal string of seconds"),
        (later, "is before that of the previous line"),
    ):
        rows, first = np.unique(row[broken], return_index=True)
        lines = dict(zip(rows.tolist(), np.flatnonzero(broken)[first].tolist(), strict=True))
        yield Breach("transcript", rows, _line(batch.lines.time, lines, reason), per_row=True)


def _line(times: pa.StringArray, lines: dict[int, int], reason: str) -> Callable[[int], str]:
    return lambda r: f"transcript time {times[lines[r]].as_py()!r} {reason}."


def node_ids(batch: Batch) -> Iterator[Breach]:
    """node_id is a version 5 UUID."""
    yield _nodes("node_id", ~batch.valid_id, lambda n: "node_id is not a version 5 UUID.")


def roots(batch: Batch) -> Iterator[Breach]:
    """A video has one node without a parent; it has level 0 and starts at 0.0."""
    root = batch.parent == ROOT
    count = np.bincount(batch.row[root], minlength=len(batch.uid))
    yield _rows(
        "root",
        count != 1,
        lambda r: f"{count[r]} of {batch.count[r]} nodes have no parent_id, but exactly 1 should.",
    )
    level, start = batch.level, batch.start
    yield _nodes(
        "root", root & (level != 0), lambda n: f"The level of a root is {level[n]}, not 0."
    )
    yield _nodes(
        "root", root & (start != 0), lambda n: f"A root starts at {start[n]:.2f}, not at 0.0."
    )


def parents(batch: Batch) -> Iterator[Breach]:
    """Every parent_id is a node of the same video, and the chain of parents ends at a root."""
    ids = batch.parent_id
    orphan = batch.parent == ORPHAN
    yield _nodes("parent", orphan, lambda n: f"parent_id {ids[n]} is not a node of this video.")
    top = batch.above
    for _ in range(len(top).bit_length()):  # each iteration looks twice as far up
        top = top[top]
    circular = batch.parent[top] >= 0
    yield _nodes("cycle", circular, lambda n: "The parents of this node form a cycle.")


def levels(batch: Batch) -> Iterator[Breach]:
    """A node's level is its parent's plus one."""
    level, above, missing = batch.level, batch.above, batch.level_missing
    wrong = (batch.parent >= 0) & (level != level[above] + 1) & ~missing & ~missing[above]
    yield _nodes("level", missing, lambda n: "level is null.")
    yield _nodes(
        "level", wrong, lambda n: f"The level is {level[n]}, but the parent's is {level[above[n]]}."
    )


def times(batch: Batch) -> Iterator[Breach]:
    """start and end are finite, rounded to two decimals, and end > start."""
    for name, stored in (("start", batch.start), ("end", batch.end)):
        finite = ~np.isnan(stored)
        yield _nodes("times", ~finite, _always(f"{name} is null or not a finite number."))
        rounded = (to_hundredths(stored) / HUNDREDTHS).astype(np.float32) == stored
        yield _nodes("times", finite & ~rounded, _value(name, stored, "not rounded to 2 decimals"))
    start, end = batch.start, batch.end
    backwards = (end < start) | ((end == start) & ~batch.lone)
    yield _nodes(
        "times", backwards, lambda n: f"It ends at {end[n]:.2f}, but starts at {start[n]:.2f}."
    )


def _always(complaint: str) -> Callable[[int], str]:
    return lambda n: complaint


def _value(name: str, stored: NDArray[np.float64], wrong: str) -> Callable[[int], str]:
    return lambda n: f"{name} is {stored[n]}: {wrong}."


def durations(batch: Batch) -> Iterator[Breach]:
    """A segment lasts at least half a second, unless it is the only one of its video."""
    length = batch.hundredths
    short = (length < _SHORTEST) & (length > 0) & ~batch.lone
    yield _nodes(
        "duration",
        short,
        lambda n: f"The segment lasts {length[n] / HUNDREDTHS:.2f} s, less than {MIN_SEGMENT} s.",
    )


def binary(batch: Batch) -> Iterator[Breach]:
    """A node has no children or two."""
    count = batch.children
    odd = (count != 0) & (count != 2)
    yield _nodes("binary", odd, lambda n: f"The number of children is {count[n]}, not 0 or 2.")


def tiling(batch: Batch) -> Iterator[Breach]:
    """Two children tile their parent without a gap or an overlap."""
    start, end = batch.start, batch.end
    nodes = np.flatnonzero((batch.parent >= 0) & (batch.children == 2)[batch.above])
    nodes = nodes[np.lexsort((start[nodes], batch.parent[nodes]))]
    left, right = nodes[::2], nodes[1::2]
    over = batch.parent[left]
    known = ~np.isnan(start[[left, right, over]] + end[[left, right, over]]).any(axis=0)
    fits = (start[left] == start[over]) & (end[left] == start[right]) & (end[right] == end[over])
    pair = dict(zip(over.tolist(), zip(left.tolist(), right.tolist(), strict=True), strict=True))

    def say(n: int) -> str:
        a, b = pair[n]
        return (
            f"The children {start[a]:.2f}-{end[a]:.2f} and {start[b]:.2f}-{end[b]:.2f} do not tile "
            f"{start[n]:.2f}-{end[n]:.2f}."
        )

    yield Breach("tiling", np.sort(over[known & ~fits]), say)


def order(batch: Batch) -> Iterator[Breach]:
    """Nodes are listed by level, then by start."""
    wrong = np.zeros(len(batch.row), bool)
    step = np.diff(batch.level)
    wrong[1:] = (step < 0) | ((step == 0) & (np.diff(batch.start) < 0))
    wrong[1:] &= np.diff(batch.row) == 0
    wrong[1:] &= ~(batch.level_missing[1:] | batch.level_missing[:-1])
    yield _nodes("order", wrong, lambda n: "It is listed after a node of a higher level or start.")


def leaf_captions(batch: Batch) -> Iterator[Breach]:
    """Only leaves have a llama3_caption."""
    wrong = present(batch.llama3_caption) & (batch.children > 0)
    yield _nodes("llama3_caption", wrong, lambda n: "An inner node has a llama3_caption.")


def gpt_annotations(batch: Batch) -> Iterator[Breach]:
    """Exactly the inner nodes of at least four seconds have gpt, and it is complete.

    A video without any gpt has not been through stage 3, which is not an error.
    """
    length = batch.hundredths
    given, inner = present(batch.gpt), batch.children > 0
    annotated = batch.rows_with(given)[batch.row]
    missing = annotated & inner & ~given & (length >= _ALWAYS_ANNOTATED)
    short = given & inner & (length <= _NEVER_ANNOTATED)
    yield _nodes("gpt", given & ~inner, lambda n: "A leaf has gpt.")
    yield _nodes("gpt", short, lambda n: f"An inner node under {MIN_ANNOTATED} s has gpt.")
    yield _nodes(
        "gpt",
        missing,
        lambda n: (
            f"An inner node of {length[n] / HUNDREDTHS:.2f} s has no gpt, in a video with gpt."
        ),
    )
    for path, strings in batch.gpt_strings.items():
        yield _nodes("gpt", given & ~present(strings), _null(path))


def no_actions(batch: Batch) -> Iterator[Breach]:
    """If the brief action is "N/A", so is the detailed one."""
    nothing = {
        name: mask(pc.equal(batch.gpt_strings[f"action.{name}"], NO_ACTION))
        for name in ("brief", "detailed")
    }
    wrong = nothing["brief"] & ~nothing["detailed"] & present(batch.gpt_strings["action.detailed"])
    say = f"gpt.action.brief is {NO_ACTION}, but gpt.action.detailed is not."
    yield _nodes("gpt", wrong, _always(say))


def _null(path: str) -> Callable[[int], str]:
    return lambda n: f"gpt.{path} is null."


RULES = (
    uids,
    upload_dates,
    transcripts,
    node_ids,
    roots,
    parents,
    levels,
    times,
    durations,
    binary,
    tiling,
    order,
    leaf_captions,
    gpt_annotations,
    no_actions,
)
