"""The order of segments in training, and how they are split between ranks."""

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
    """The n segments that training draws from, in v videos; takes about 8 bytes per segment.

    Attributes:
        sources: the files of the dataset.
        source, group, row: (v,) location of each video: its file, the row group in the file, and
            its row in the file.
        digest: (v,) uint64 digest of each video's uid and its segments' times.
        video, node: (n,) int32: video of each segment among the v, and its position in the video.
        weights: (n,) weights to draw by; None: all equally likely, without replacement.
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
        """Return the number of samples in an epoch."""
        return len(self.video) if self.draws is None else int(self.draws.sum())

    @property
    def identity(self) -> str:
        """A digest of the segments and how often they are drawn, wherever the dataset is stored."""
        digest = blake2b(digest_size=8)
        for part in (self.digest, self.video, self.node, self.weights, self.draws):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the segments of an epoch in order, (N,).

        Each occurs once; with draws, as often as its draws say; with weights and no draws, N are
        drawn by weight with replacement, N being the number of segments.
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
        """Return a segment's video with these fields and its times, and its position in the video.

        Raises:
            DatasetError: the file can no longer be read, or has changed.
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
        raise source.error(f"Its row {row} has changed: open the dataset again.")


def gather_pool(
    dataset: Dataset, choice: Choice, index: Index | None, uids: Container[str]
) -> tuple[Pool, int]:
    """Read a dataset's trees once, and gather the segments to draw.

    Args:
        dataset: a dataset of any size.
        choice: the segments to draw.
        index: an index from `balance`: only its segments are drawn, by its draws if it has them,
            else by its weights.
        uids: uids of the available videos.

    Returns:
        The pool, and the number of videos with segments to draw that are not available.

    Raises:
        DatasetError: a file cannot be read, no segment is left, or the index has segments that the
            dataset lacks.
    """
    gathering = _Gathering(dataset, index, uids)
    for source, batch in dataset.batches(choice.fields):
        gathering.add(source, batch, choice.mask(batch))
    return gathering.pool(), gathering.absent


class _Gathering:
    """A pool under construction, with a piece for each batch.

    Attributes:
        absent: number of videos with segments to draw that are not available.
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
        """Return the pool of all batches."""
        index = self._index
        if index is not None and (error := index.lacked(self._indexed)):
            raise error
        if not self._count:
            raise DatasetError(
                "No segment can be drawn: none is chosen, or no video is found (give videos=)."
            )
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
        """Return file, row group and row of some rows of a file, (3, r)."""
        number = self._numbers[source.name]
        if number not in self._first_rows:
            self._first_rows[number] = np.array(source.first_rows())
        group = np.searchsorted(self._first_rows[number], rows, side="right") - 1
        return np.stack([np.full(len(rows), number), group, rows])


def _digest(batch: Batch, row: int) -> int:
    """Return a digest of a video's uid and its segments' times."""
    segments = slice(int(batch.offsets[row]), int(batch.offsets[row + 1]))
    digest = blake2b(str(batch.uid[row].as_py()).encode(), digest_size=8)
    for times in (batch.start, batch.end):
        digest.update(times[segments].tobytes())
    return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True)
class Dealing:
    """How the samples of an epoch are dealt to ranks, batch by batch.

    The ordered samples are cut into blocks of batch_size * world_size; each rank takes every
    world_size-th sample of block k as its batch k. No sample is dealt twice or, without drop_last,
    left out: in the last block, which may be short, the batches of the ranks differ by at most one
    sample, and a rank without samples gets no batch. The samples dealt so far are always the first
    of the order: one number describes the progress for any number of ranks and workers.

    Attributes:
        samples: number of samples in the epoch.
        done: number of samples at the beginning of the order that were dealt before.
        batch_size: number of samples in a batch of one rank.
        rank, world_size: this rank, and the number of ranks.
        drop_last: leave out a short last block, so that all ranks have equally many batches.
    """

    samples: int
    done: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __len__(self) -> int:
        """Return the number of batches of this rank."""
        full, left = divmod(self.samples - self.done, self._block)
        return full + (not self.drop_last and left > self.rank)

    def batch(self, number: int) -> range:
        """Return the positions of a batch's samples in the order."""
        begin = self.done + number * self._block
        return range(begin + self.rank, self.after(number), self.world_size)

    def after(self, number: int) -> int:
        """Return the value of `done` after all ranks have had that batch."""
        return min(self.done + (number + 1) * self._block, self.samples)

    @property
    def _block(self) -> int:
        return self.batch_size * self.world_size
