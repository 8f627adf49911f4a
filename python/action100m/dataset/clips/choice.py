"""Choose which segments of a dataset become clips."""

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
from action100m.dataset.words import Words
from action100m.schema import HUNDREDTHS, SEGMENT_TEXTS, to_hundredths


@dataclass(frozen=True)
class Segment:
    """A segment to be cut as a clip.

    Attributes:
        node_id, level, start, end: as in the dataset, times rounded.
        texts: its texts, by column of the SQL view `segments`; null is None.
    """

    node_id: str
    level: int
    start: float
    end: float
    texts: dict[str, str | None]


@dataclass(frozen=True)
class Choice:
    """The conditions for segments; a segment must meet all of them.

    Attributes:
        selection: bounds on level and duration.
        words: words in a text of the segment, or in the transcript within it; see `search`.
        index: only segments in this index, drawn at least once if the index has draws.
    """

    selection: Selection = field(default_factory=Selection)
    words: Words | None = None
    index: Index | None = None

    def videos(self, dataset: Dataset) -> Iterator[tuple[str, list[Segment]]]:
        """Yield every video of the dataset, in order, with its chosen segments, possibly none.

        Raises:
            DatasetError: a file cannot be read or, at the end, the index has segments that the
                dataset lacks; and the dataset has no `on_error`.
        """
        indexed = 0
        for _, batch in dataset.batches(self.fields | {*SEGMENT_TEXTS.values()}):
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
        """Return the conditions as plain values, for comparison with those of an earlier call."""
        bounds = {name: str(value) for name, value in asdict(self.selection).items()}
        words = self.words.query if self.words else None
        return {**bounds, "words": words, "index": self.index.digest() if self.index else None}

    @property
    def fields(self) -> set[str]:
        """The fields of a batch that `mask` needs."""
        return {*Selection.FIELDS, *(ByWords.fields if self.words else ())}

    def mask(self, batch: Batch, drawn: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return True for the chosen segments, (m,); if given, only for those `drawn` (m,)."""
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
    hundredths = (to_hundredths(times[nodes]) for times in (batch.start, batch.end))
    times = ((each / HUNDREDTHS).tolist() for each in hundredths)
    columns = (batch.field(path).take(nodes).to_pylist() for path in SEGMENT_TEXTS.values())
    texts = [dict(zip(SEGMENT_TEXTS, row, strict=True)) for row in zip(*columns, strict=True)]
    levels = batch.level[nodes].tolist()
    rows = zip(ids, levels, *times, texts, strict=True)
    return [Segment(node_id or "", *rest) for node_id, *rest in rows]
