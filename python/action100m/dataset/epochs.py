"""Which segments come when in training, and to whom."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from action100m.dataset.balance.index import Index
from action100m.dataset.clips.choice import Choice
from action100m.dataset.columns import Batch
from action100m.dataset.read import Dataset, Video
from action100m.dataset.sources import Source
from action100m.errors import DatasetError

_Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pool:
    """The n segments that training draws from, in v videos; some 8 bytes a segment.

    Attributes:
        sources: the files of the dataset.
        source, group, row: (v,) where each video stands: its file, the row group in it, and its
            row in the file.
        digest: (v,) uint64 of each video's uid and its segments' times.
        video, node: (n,) int32: each segment's video among the v, and its place in that.
        weights: (n,) how likely each is drawn; None: all alike, and without replacement.
        draws: (n,) how often each is drawn in an epoch; None: once, or by weight.
    """

    sources: tuple[Source, ...]
    source: _Array
    group: _Array
    row: _Array
    digest: NDArray[np.uint64]
    video: NDArray[np.int32]
    node: NDArray[np.int32]
    weights: NDArray[np.float64] | None = None
    draws: _Array | None = None

    def __len__(self) -> int:
        """How many samples an epoch has."""
        return len(self.video) if self.draws is None else int(self.draws.sum())

    @property
    def identity(self) -> str:
        """The same for the same segments, drawn as often, wherever the dataset lies."""
        digest = blake2b(digest_size=8)
        for part in (self.digest, self.video, self.node, self.weights, self.draws):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """(N,) the segments of an epoch in the order in which they come.

        Each comes once; or as often as its draws say; or, where there are weights and no draws, N
        are drawn by weight with replacement, N being the number of segments.
        """
        generator = np.random.default_rng([seed, epoch])
        every = np.arange(len(self.video))
        if self.draws is not None:
            return generator.permutation(np.repeat(every, self.draws))
        if self.weights is not None:
            shares = self.weights / self.weights.sum()
            return generator.choice(len(every), len(every), p=shares)
        return generator.permutation(every)

    def read(self, segment: int, fields: Iterable[str]) -> tuple[Video, int]:
        """A segment's video with these fields and its times, and its place in that.

        Raises:
            DatasetError: the file cannot be read any more, or was written anew.
        """
        video = self.video[segment]
        source, row = self.sources[self.source[video]], int(self.row[video])
        asked = {*fields, "nodes.start", "nodes.end"}
        for first_row, rows in source.batches(asked, groups={int(self.group[video])}):
            if isinstance(rows, DatasetError):
                raise rows
            if first_row <= row < first_row + len(rows):
                found = Video(source, Batch(rows, first_row), row - first_row)
                if _digest(found.batch, found.row) == self.digest[video]:
                    return found, int(self.node[segment])
        raise source.error(f"Its row {row} is another than it was: open the dataset again.")


def gather_pool(
    dataset: Dataset, choice: Choice, index: Index | None, uids: Container[str]
) -> tuple[Pool, int]:
    """Read a dataset's trees once.

    Args:
        dataset: any size.
        choice: which segments.
        index: of `balance`: only its segments are drawn, by its draws if it has some, else by its
            weights.
        uids: of the videos that are at hand.

    Returns:
        The pool, and how many videos with segments to draw are not at hand.

    Raises:
        DatasetError: a file cannot be read, no segment is left, or the index has segments that the
            dataset has not.
    """
    gathering = _Gathering(dataset, index, uids)
    for source, batch in dataset.batches(choice.fields):
        gathering.add(source, batch, choice.mask(batch))
    return gathering.pool(), gathering.absent


class _Gathering:
    """A pool as it grows, a piece for each batch.

    Attributes:
        absent: videos with segments to draw that are not at hand.
    """

    def __init__(self, dataset: Dataset, index: Index | None, uids: Container[str]) -> None:
        self._sources, self._index, self._uids = dataset.sources, index, uids
        self._numbers = {source.name: number for number, source in enumerate(dataset.sources)}
        self._first_rows: dict[int, _Array] = {}
        self._videos: list[_Array] = []
        self._digests: list[int] = []
        self._segments: list[NDArray[np.int32]] = []
        self._places: list[_Array] = []
        self._count = self._indexed = 0
        self.absent = 0

    def add(self, source: Source, batch: Batch, chosen: NDArray[np.bool_]) -> None:
        """Add the segments of a batch where `chosen` (m,) is True."""
        if self._index is not None:
            places = self._index.find(batch)
            self._indexed += int((places >= 0).sum())
            chosen = chosen & self._index.drawn(places)
            self._places.append(places)
        here = np.array([uid in self._uids for uid in batch.uid.to_pylist()], bool)
        self.absent += int((batch.rows_with(chosen) & ~here).sum())
        nodes = np.flatnonzero(chosen & here[batch.row])
        if self._index is not None:
            self._places[-1] = self._places[-1][nodes]
        rows, video = np.unique(batch.row[nodes], return_inverse=True)
        node = nodes - batch.offsets[batch.row[nodes]]
        self._segments.append(np.stack([self._count + video, node]).astype(np.int32))
        self._videos.append(self._where(source, batch.first_row + rows))
        self._digests += [_digest(batch, row) for row in rows.tolist()]
        self._count += len(rows)

    def pool(self) -> Pool:
        """What has been gathered."""
        index = self._index
        if index is not None and (error := index.lacked(self._indexed)):
            raise error
        if not self._count:
            raise DatasetError("No segment is left to draw: none was chosen, or no video is here.")
        source, group, row = np.concatenate(self._videos, 1)
        video, node = np.concatenate(self._segments, 1)
        weights = draws = None
        if index is not None:
            places = np.concatenate(self._places)
            draws = None if index.draws is None else index.draws[places]
            weights = index.weights[places] if draws is None else None
        digest = np.array(self._digests, np.uint64)
        return Pool(self._sources, source, group, row, digest, video, node, weights, draws)

    def _where(self, source: Source, rows: _Array) -> _Array:
        """(3, r) file, row group and row of some rows of a file."""
        number = self._numbers[source.name]
        if number not in self._first_rows:
            self._first_rows[number] = np.array(source.first_rows())
        group = np.searchsorted(self._first_rows[number], rows, side="right") - 1
        return np.stack([np.full(len(rows), number), group, rows])


def _digest(batch: Batch, row: int) -> int:
    """Of a video's uid and its segments' times."""
    segments = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
    digest = blake2b(str(batch.uid[row].as_py()).encode(), digest_size=8)
    for times in (batch.start, batch.end):
        digest.update(times[segments].tobytes())
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True)
class Dealing:
    """How the samples of an epoch are dealt to ranks, batch by batch.

    The samples in their order are cut into blocks of batch_size * world_size; of block number k
    each rank has every world_size-th as its batch number k. Nothing is dealt twice, and nothing is
    left over: of the last block, which may be short, the ranks get batches that differ by one
    sample at most, and no batch where there is no sample. What has been dealt is always the
    beginning of the order: one number says how far training is, whatever the ranks and workers.

    Attributes:
        samples: of the epoch.
        done: samples at the beginning of the order that were dealt before.
        batch_size: of a rank.
        rank, world_size: who asks, of how many.
        drop_last: leave out a last block that is short; then all ranks have as many batches.
    """

    samples: int
    done: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __len__(self) -> int:
        """How many batches this rank has."""
        full, left = divmod(self.samples - self.done, self._block)
        return full + (not self.drop_last and left > self.rank)

    def batch(self, number: int) -> range:
        """Where in the order the samples of a batch stand."""
        begin = self.done + number * self._block
        return range(begin + self.rank, self.after(number), self.world_size)

    def after(self, number: int) -> int:
        """What is `done` once all ranks have had that batch."""
        return min(self.done + (number + 1) * self._block, self.samples)

    @property
    def _block(self) -> int:
        return self.batch_size * self.world_size
