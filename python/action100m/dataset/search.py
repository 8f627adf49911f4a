"""Find segments by their texts and their transcript, and keep the best few of any number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.dataset.columns import Batch
from action100m.dataset.select import Selection
from action100m.dataset.words import Words
from action100m.schema import stored_time
from action100m.text import clean

if TYPE_CHECKING:
    from action100m.dataset.read import Dataset

SEARCHED = (
    "gpt.action.brief",
    "plm_action",
    "gpt.action.detailed",
    "gpt.action.actor",
    "gpt.summary.brief",
    "gpt.summary.detailed",
    "plm_caption",
    "llama3_caption",
)
"""The searched fields, in the order of their hits; hits in the transcript come after these."""
_SITE_UID = re.compile(r"[A-Za-z0-9_-]{11}")
_AROUND = 60  # characters shown before the first word that was found


@dataclass(frozen=True)
class Hit:
    """A segment that was found.

    Attributes:
        video_uid, node_id, level: the video, the segment, and its level in the tree.
        start, end: seconds.
        field: the field that matched: one of SEARCHED, or "transcript".
        text: the text of the field.
        score: similarity of meaning, 1 at most; None in a search for words.
    """

    video_uid: str
    node_id: str
    level: int
    start: float
    end: float
    field: str
    text: str
    score: float | None = None

    def link(self, file: str | None = None) -> str | None:
        """Return a link to the segment in the video's file, else on the site that its uid is from.

        Args:
            file: path of the video, if known.

        Returns:
            The link; None without a file if the uid is not a YouTube id of 11 characters.
        """
        if file is not None:
            return f"{Path(file).absolute().as_uri()}#t={self.start:.8g},{self.end:.8g}"
        if _SITE_UID.fullmatch(self.video_uid):
            return f"https://www.youtube.com/watch?v={self.video_uid}&t={int(self.start)}s"
        return None

    def line(self, words: Words | None = None) -> str:
        """Return a line of text with the segment and its text, from near the words on."""
        skipped = max(0, words.first_in(self.text) - _AROUND) if words else 0
        shown = ("…" if skipped else "") + clean(self.text[skipped:], 160)
        times = f"{self.start:.2f}-{self.end:.2f} s"
        return f"{self.video_uid}  {times}  level {self.level}  {self.field}: {shown}"

    def as_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dataclasses.asdict(self)


class Ranking(Protocol):
    """Decides which segments of a batch are found, and how well."""

    fields: tuple[str, ...]
    """The fields that it reads."""

    def find(self, batch: Batch, chosen: NDArray[np.bool_]) -> Iterator[Found]: ...


@dataclass(frozen=True)
class Found:
    """Segments of a batch that were found by one field.

    Attributes:
        field: name of the field.
        texts: (T,) values of the field.
        nodes: (k,) positions of the segments.
        at: (k,) position of the text by which each segment was found.
        cost: (k,) rank of each segment; lower is better.
        scored: True if the cost is a negated score.
    """

    field: str
    texts: pa.StringArray
    nodes: NDArray[np.int64]
    at: NDArray[np.int64]
    cost: NDArray[np.float64]
    scored: bool = False


def search(dataset: Dataset, ranking: Ranking, selection: Selection, limit: int) -> list[Hit]:
    """Return the best `limit` segments, each found once, by its best field.

    Among equally good segments, the shorter comes first: it locates the match more precisely.
    Memory does not grow with the dataset.

    Args:
        dataset: any dataset.
        ranking: a ranking by words or by meaning.
        selection: the segments to search.
        limit: maximum number of segments.

    Raises:
        DatasetError: a file cannot be read, and the dataset has no `on_error`.
    """
    best = _Best(limit)
    for _, batch in dataset.batches([*Selection.FIELDS, *ranking.fields]):
        best.add(batch, ranking.find(batch, selection.mask(batch)))
    return [hit for _, hit in best.hits()]


@dataclass
class ByWords:
    """Ranks segments by the field that contains all words: actions first, transcript last."""

    words: Words
    fields: tuple[str, ...] = (*(f"nodes.{name}" for name in SEARCHED), "metadata.transcript")

    def find(self, batch: Batch, chosen: NDArray[np.bool_]) -> Iterator[Found]:
        """Yield, for every field, the chosen segments for which it contains all the words."""
        there = pa.array(chosen)
        nodes = np.flatnonzero(chosen)
        for place, name in enumerate(SEARCHED):
            texts = batch.field(f"nodes.{name}").filter(there)
            at = self.words.within(texts)
            yield Found(name, texts, nodes[at], at, np.full(len(at), float(place)))
        lines = batch.lines
        at = self.words.within(lines.text)
        said = [_deepest(batch, chosen, int(lines.row[line]), lines.seconds[line]) for line in at]
        inside = np.array([node is not None for node in said], bool)
        found = np.array([node for node in said if node is not None], np.int64)
        cost = np.full(len(found), float(len(SEARCHED)))
        yield Found("transcript", lines.text, found, at[inside], cost)


def _deepest(batch: Batch, chosen: NDArray[np.bool_], row: int, seconds: float) -> int | None:
    """Return the deepest chosen segment of a video at a time; None if no chosen one is there."""
    span = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
    holds = chosen[span] & (batch.start[span] <= seconds) & (seconds < batch.end[span])
    if not holds.any():
        return None
    return span.start + int(np.where(holds, batch.level[span], -1).argmax())


_Key = tuple[float, float, str, float]


@dataclass
class _Best:
    """The hits with the lowest keys so far, among up to as many others."""

    limit: int
    _kept: list[tuple[_Key, Hit]] = field(default_factory=list)

    def add(self, batch: Batch, found: Iterable[Found]) -> None:
        length = batch.end - batch.start
        fresh: dict[int, tuple[_Key, Hit]] = {}
        for one in found:
            for k in _lowest(one.cost, length[one.nodes], self.limit).tolist():
                node = int(one.nodes[k])
                if node not in fresh or one.cost[k] < fresh[node][0][0]:
                    fresh[node] = self._hit(batch, one, k, float(length[node]))
        self._kept += fresh.values()
        if len(self._kept) > 2 * self.limit:  # not for every batch, as sorting takes long
            self._kept = self.hits()

    def hits(self) -> list[tuple[_Key, Hit]]:
        """Return the hits with the lowest keys, in order."""
        return sorted(self._kept, key=lambda pair: pair[0])[: self.limit]

    def _hit(self, batch: Batch, one: Found, k: int, length: float) -> tuple[_Key, Hit]:
        node, cost = int(one.nodes[k]), float(one.cost[k])
        uid = batch.uid[int(batch.row[node])].as_py() or ""
        start, end = stored_time(batch.start[node]), stored_time(batch.end[node])
        hit = Hit(
            video_uid=uid,
            node_id=str(batch.node_id[node].as_py()),
            level=int(batch.level[node]),
            start=start,
            end=end,
            field=one.field,
            text=one.texts[int(one.at[k])].as_py(),
            score=-cost if one.scored else None,
        )
        return (cost, length, uid, start), hit


def _lowest(
    cost: NDArray[np.float64], length: NDArray[np.float64], limit: int
) -> NDArray[np.int64]:
    """Return the positions of the `limit` lowest by cost, then length, and of later ties."""
    order = np.lexsort((length, cost))
    if len(order) <= limit:
        return order
    last = order[limit - 1]
    tied = (cost[order] == cost[last]) & (length[order] == length[last])
    return order[: max(limit, int(np.flatnonzero(tied)[-1]) + 1)]
