"""Measure the published statistics on a stream of batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m import _core
from action100m.dataset.columns import Batch, mask, present
from action100m.dataset.findings import Note
from action100m.schema import HUNDREDTHS, NO_ACTION

_LONGEST = 10 * 3600 * HUNDREDTHS  # longer segments count as this long
_BUCKETS = {"under 3 s": 300, "3 to 10 s": 1000, "10 to 60 s": 6000, "over 60 s": _LONGEST + 1}
_SHARES = ("62 %", "25 %", "10 %", "2 %")
_WORDS = {
    "plm_action": "6.5",
    "plm_caption": "70",
    "llama3_caption": "165",
    "gpt.action.brief": "3.3",
    "gpt.action.detailed": "27",
    "gpt.action.actor": "6",
    "gpt.summary.brief": "19",
    "gpt.summary.detailed": "93",
}


class RunningStatistics:
    """Accumulates batches, and gives notes at the end. Its size does not grow with the data."""

    def __init__(self) -> None:
        self._leaves = np.zeros(0, np.int64)  # nodes by length in hundredths
        self._inner = np.zeros(0, np.int64)
        self._depths: Counter[int] = Counter()
        self._per_minute: tuple[float, float] = (np.inf, -np.inf)
        self._seconds = 0.0
        self._videos: Counter[str] = Counter()  # number that have each field
        self._asked: Counter[str] = Counter()  # nodes that should have each, in these videos
        self._null: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._texts: Counter[str] = Counter()
        self._without_action = 0
        self.videos = 0
        self.nodes = 0
        self.levels: Counter[int] = Counter()  # nodes by level

    def add(self, batch: Batch) -> None:
        """Add a batch, including broken rows."""
        self.videos += len(batch.uid)
        self.nodes += len(batch.row)
        levels, counts = np.unique(batch.level, return_counts=True)
        self.levels.update(dict(zip(levels.tolist(), counts.tolist(), strict=True)))
        self._add_lengths(batch)
        leaf = batch.children == 0
        self._add_field("plm_action", batch.plm_action, batch, np.ones_like(leaf))
        self._add_field("plm_caption", batch.plm_caption, batch, np.ones_like(leaf))
        self._add_field("llama3_caption", batch.llama3_caption, batch, leaf)
        self._add_field("gpt", batch.gpt, batch, present(batch.gpt))
        for path, strings in batch.gpt_strings.items():
            self._count_words(f"gpt.{path}", strings)
        brief = batch.gpt_strings["action.brief"]
        self._without_action += int(mask(pc.equal(brief, NO_ACTION)).sum())

    def _add_lengths(self, batch: Batch) -> None:
        finite = np.isfinite(batch.hundredths)
        length = np.clip(np.where(finite, batch.hundredths, 0), 0, _LONGEST).astype(np.int64)
        leaf = batch.children == 0
        self._leaves = _added(self._leaves, np.bincount(length[leaf & finite]))
        self._inner = _added(self._inner, np.bincount(length[~leaf & finite]))
        filled = batch.count > 0
        if not filled.any():
            return
        firsts = batch.offsets[:-1][filled]
        self._depths.update(np.maximum.reduceat(batch.level, firsts).tolist())
        # The longest segment is the video, also where the root is not listed first.
        whole = np.maximum.reduceat(np.where(finite, batch.hundredths, 0), firsts)
        seconds = np.maximum(whole, 0) / HUNDREDTHS
        self._seconds += float(seconds.sum())
        long = seconds >= 60  # rates of short videos mean little
        rates = 60 * batch.count[filled][long] / seconds[long]
        low, high = self._per_minute
        self._per_minute = min([low, *rates.tolist()]), max([high, *rates.tolist()])

    def _add_field(
        self, name: str, values: pa.Array, batch: Batch, asked: NDArray[np.bool_]
    ) -> None:
        given = present(values)
        rows = batch.rows_with(given)
        self._videos[name] += int(rows.sum())
        self._asked[name] += int((asked & rows[batch.row]).sum())
        self._null[name] += int((asked & rows[batch.row] & ~given).sum())
        if name in _WORDS:
            self._count_words(name, values)

    def _count_words(self, name: str, texts: pa.StringArray) -> None:
        self._texts[name] += len(texts) - texts.null_count
        self._words[name] += count_words(texts)

    @property
    def leaves(self) -> Lengths:
        """Durations of the leaves."""
        return Lengths(self._leaves)

    @property
    def every(self) -> Lengths:
        """Durations of all segments."""
        return Lengths(_added(self._leaves.copy(), self._inner))

    @property
    def seconds(self) -> float:
        """Total duration of all videos, from their first segments."""
        return self._seconds

    @property
    def annotated(self) -> int:
        """Number of nodes with `gpt`."""
        return self._asked["gpt"]

    @property
    def deepest(self) -> tuple[int, int] | None:
        """The deepest levels of the shallowest and of the deepest video; None without videos."""
        return (min(self._depths), max(self._depths)) if self._depths else None

    def words(self) -> Iterator[tuple[str, int, int]]:
        """Yield, for each text field that occurs, its name and its numbers of texts and words."""
        for name in _WORDS:
            if count := self._texts[name]:
                yield name, count, self._words[name]

    def notes(self) -> Iterator[Note]:
        """Yield the statistics, each beside the published one."""
        if not self.nodes:
            return
        yield from self._tree_notes()
        for name in ("plm_action", "plm_caption", "llama3_caption", "gpt"):
            yield Note(f"videos with {name}", f"{self._videos[name]} of {self.videos}", "all")
        for name, where, published in (
            ("plm_action", "nodes", "present on every node"),
            ("plm_caption", "nodes", "about 1"),
            ("llama3_caption", "leaves", "present on leaves only"),
        ):
            if asked := self._asked[name]:
                rate = 1000 * self._null[name] / asked
                yield Note(f"{where} without {name}, per 1,000", f"{rate:.2f}", published)
        if annotated := self._asked["gpt"]:
            share = 100 * self._without_action / annotated
            published = "3.4 % in the samples, 3.23 % in the full set"
            yield Note(f'annotated nodes with action "{NO_ACTION}"', f"{share:.2f} %", published)
        for name, count, words in self.words():
            yield Note(f"mean words of {name}", f"{words / count:.1f}", _WORDS[name])

    def _tree_notes(self) -> Iterator[Note]:
        leaves, every = self.leaves, self.every
        if leaves.count:
            yield Note("leaf length, median", f"{leaves.quantile(0.5):.2f} s", "1.06 s")
            yield Note("leaf length, mean", f"{leaves.mean():.2f} s", "1.7 s")
            yield Note("leaves under 3.5 s", f"{100 * leaves.share(0, 350):.1f} %", "95 %")
            yield Note("longest leaf", f"{leaves.quantile(1):.2f} s", "10 to 26 s")
        if self._seconds:
            rate = f"{60 * self.nodes / self._seconds:.0f}"
            if self._per_minute[0] <= self._per_minute[1]:
                rate += " ({:.0f} to {:.0f} in videos of a minute or more)".format(
                    *self._per_minute
                )
            yield Note("nodes per minute of video", rate, "40 to 130")
        if self.deepest is not None:
            low, high = self.deepest
            yield Note("deepest level of a video", f"{low} to {high}", "10 to 19")
        low = 0
        for (bucket, high), published in zip(_BUCKETS.items(), _SHARES, strict=True):
            if every.count:
                yield Note(f"nodes {bucket}", f"{100 * every.share(low, high):.1f} %", published)
            low = high


def _added(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of two histograms, as long as the longer; `one` may be modified."""
    if len(one) < len(other):
        one = np.pad(one, (0, len(other) - len(one)))
    one[: len(other)] += other
    return one


class Lengths:
    """The durations of segments.

    Attributes:
        hundredths: (L,) the distinct durations, in hundredths of a second, increasing.
        counts: (L,) number of segments of each duration.
        count: number of all segments.
    """

    def __init__(self, histogram: NDArray[np.int64]) -> None:
        self.hundredths = np.flatnonzero(histogram)
        self.counts = histogram[self.hundredths]
        self._below = np.concatenate([[0], np.cumsum(self.counts)])
        self.count = int(self._below[-1])

    def mean(self) -> float:
        """Return the mean in seconds."""
        return float(self.counts @ self.hundredths) / self.count / HUNDREDTHS

    def quantile(self, q: float) -> float:
        """Return the shortest duration, in seconds, that at least a share q does not exceed."""
        rank = max(1, int(np.ceil(q * self.count)))
        return int(self.hundredths[np.searchsorted(self._below, rank) - 1]) / HUNDREDTHS

    def share(self, low: int, high: int) -> float:
        """Return the share of durations from `low` to below `high` hundredths."""
        first, last = np.searchsorted(self.hundredths, [low, high])
        return float(self._below[last] - self._below[first]) / self.count


def count_words(texts: pa.StringArray) -> int:
    """Return the number of words, separated by ASCII white space, in all texts together."""
    _, offsets, characters = texts.buffers()
    if not len(texts) or characters is None:
        return 0
    at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    given = present(texts)  # the buffer may hold characters of a null
    return _core.count_words(at, given, np.frombuffer(characters, np.uint8))
