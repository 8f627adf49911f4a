"""Which segments of a dataset become clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from action100m.dataset.balance.index import Index
from action100m.dataset.columns import Batch
from action100m.dataset.read import Dataset
from action100m.dataset.search import ByWords
from action100m.dataset.select import Selection
from action100m.dataset.sql import TEXTS
from action100m.dataset.words import Words
from action100m.schema import TIME_DECIMALS


@dataclass(frozen=True)
class Segment:
    """One that is wanted as a clip.

    Attributes:
        node_id, level, start, end: as in the dataset, times rounded.
        texts: what is said of it, by the columns of the SQL view; null is None.
    """

    node_id: str
    level: int
    start: float
    end: float
    texts: dict[str, str | None]


@dataclass(frozen=True)
class Choice:
    """What is asked for; a segment must meet all of it.

    Attributes:
        selection: by level and duration.
        words: that a text of the segment, or the transcript within it, holds; see `search`.
        index: segments that it draws: at least once where draws were dealt, else all of its.
    """

    selection: Selection = field(default_factory=Selection)
    words: Words | None = None
    index: Index | None = None

    def videos(self, dataset: Dataset) -> Iterator[tuple[str, list[Segment]]]:
        """Every video of the dataset, in its order, with its segments that are wanted: maybe none.

        Raises:
            DatasetError: a file cannot be read, or at the end, the index has segments that the
                dataset lacks; and the dataset has no `on_error`.
        """
        indexed = 0
        for _, batch in dataset.batches(self.fields | {*TEXTS.values()}):
            drawn = None
            if self.index is not None:
                places = self.index.find(batch)
                indexed += int((places >= 0).sum())
                drawn = self.index.drawn(places)
            nodes = np.flatnonzero(self.mask(batch, drawn))
            segments = _segments(batch, nodes)
            borders = np.searchsorted(nodes, batch.offsets)
            for row, uid in enumerate(batch.uid.to_pylist()):
                yield uid or "", segments[borders[row] : borders[row + 1]]
        if self.index is not None and (error := self.index.lacked(indexed)):
            dataset.refuse(error)

    def asked(self) -> dict[str, object]:
        """The same in numbers and strings, to be compared with what was asked before."""
        bounds = {name: str(value) for name, value in asdict(self.selection).items()}
        words = self.words.query if self.words else None
        return {**bounds, "words": words, "index": self.index.digest() if self.index else None}

    @property
    def fields(self) -> set[str]:
        """What `mask` needs of a batch."""
        return {*Selection.FIELDS, *(ByWords.fields if self.words else ())}

    def mask(self, batch: Batch, drawn: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """(m,) True for the segments that are meant; only those that are `drawn` (m,), if given."""
        chosen = self.selection.mask(batch)
        if drawn is not None:
            chosen &= drawn
        if self.words is not None:
            said = np.zeros(len(chosen), bool)
            for found in ByWords(self.words).find(batch, chosen):
                said[found.nodes] = True
            chosen &= said
        return chosen


def _segments(batch: Batch, nodes: NDArray[np.int64]) -> list[Segment]:
    ids = batch.node_id.take(nodes).to_pylist()
    times = (np.round(times[nodes], TIME_DECIMALS).tolist() for times in (batch.start, batch.end))
    columns = (batch.field(path).take(nodes).to_pylist() for path in TEXTS.values())
    texts = [dict(zip(TEXTS, row, strict=True)) for row in zip(*columns, strict=True)]
    levels = batch.level[nodes].tolist()
    rows = zip(ids, levels, *times, texts, strict=True)
    return [Segment(node_id or "", *rest) for node_id, *rest in rows]
