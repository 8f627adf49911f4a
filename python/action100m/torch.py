"""Train on segments of local videos with PyTorch: their frames, texts and times."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from action100m.config import SquareAspect
from action100m.dataset.balance.index import Index
from action100m.dataset.clips.choice import Choice
from action100m.dataset.epochs import Dealing, gather_pool
from action100m.dataset.read import Video, open_dataset
from action100m.dataset.select import Selection
from action100m.dataset.words import Words
from action100m.errors import VideoError
from action100m.runs.discovery import local_videos
from action100m.schema import SEGMENT_TEXTS, stored_time
from action100m.text import counted
from action100m.video import Decoder, FrameBatch, FrameSpec

try:
    import torch
    from torch import Tensor, distributed
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise ImportError("action100m.torch needs PyTorch: pip install 'action100m[torch]'.") from error

__all__ = ["Batch", "Segments", "State"]

_log = logging.getLogger(__name__)


class State(TypedDict):
    """The position within an epoch, which can be stored as JSON or in a checkpoint.

    Attributes:
        seed, epoch: determine the order.
        segments: identity of the segments to draw from; see `Pool.identity`.
        done: number of segments of the epoch that all ranks together have used.
    """

    seed: int
    epoch: int
    segments: str
    done: int


class Batch(TypedDict):
    """A batch of b segments with t frames each.

    Attributes:
        frames: (b, t, side, side, 3) uint8 RGB.
        times: (b, t) float64, seconds of the video at which each frame appears.
        texts: for each field, b texts, which are None if the dataset has none.
        uid, node_id: b uids and node ids.
        level: (b,) int64, levels in the tree.
        start, end: (b,) float64 seconds.
        state: resumes after this batch, with `Segments.load_state_dict`.
    """

    frames: Tensor
    times: Tensor
    texts: dict[str, list[str | None]]
    uid: list[str]
    node_id: list[str]
    level: Tensor
    start: Tensor
    end: Tensor
    state: State


class Segments(IterableDataset[Batch]):
    """Batches of segments in random order, for ``DataLoader(segments, batch_size=None)``.

    The order depends only on the seed and the epoch. Batches are made by this class and not by the
    DataLoader, so any number of workers gives the same batches in the same order; `Dealing`
    describes how they are distributed to the ranks and what happens to a remainder. Each batch
    carries the state to resume from, with any number of ranks and workers:

        segments = Segments("run", frames=8, side=224, batch_size=16, index="index.parquet")
        loader = DataLoader(segments, batch_size=None, num_workers=4)
        state = checkpoint.get("segments")
        if state:
            segments.load_state_dict(state)
        for epoch in range(state["epoch"] if state else 0, epochs):
            segments.set_epoch(epoch)
            for batch in loader:
                ...
                checkpoint["segments"] = batch["state"]

    A video that cannot be read is logged once, and its samples are left out of their batches; a
    batch of which nothing can be read raises `VideoError`. Besides the pixels, each segment takes
    memory: 8 bytes, and 16 in every worker for the order of an epoch; with an index 8 more, and
    about 50 while it is read. Every worker keeps the footers of the 16 files that it read last.
    """

    def __init__(
        self,
        where: str | Path | Sequence[str | Path],
        *,
        videos: str | Path | Sequence[str | Path] = (),
        frames: int = 8,
        side: int = 224,
        aspect: SquareAspect = "crop",
        texts: Sequence[str] = tuple(SEGMENT_TEXTS),
        batch_size: int = 1,
        selection: Selection | None = None,
        words: str | None = None,
        index: str | Path | None = None,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Read the trees of the dataset.

        Args:
            where: the dataset, as for `action100m.open`.
            videos: files, folders or globs of videos; needed if `where` is not a run folder, or if
                some videos are elsewhere.
            frames: t, the number of frames, taken from the middles of t equal parts of a segment.
            side: side of the square frames in pixels.
            aspect: how a picture becomes square; see `FrameSpec`.
            texts: columns of the SQL view `segments` to include.
            batch_size: number of segments per batch of each rank.
            selection: the segments to use; by default all.
            words: use only segments that `search` finds with these words.
            index: a file written by `balance`: segments are repeated as its draws say; if it has no
                draws, N segments are drawn by weight, again in each epoch.
            seed: seed of the order; the same for all ranks.
            drop_last: drop a short last block, so that all ranks have the same number of batches.
            rank, world_size: by default those of torch.distributed, if it is initialised.

        Raises:
            FileNotFoundError, DatasetError: see `open_dataset` and `gather_pool`.
            UsageError: a video does not exist, or two videos have the same uid.
            ValueError: an argument is out of range.
        """
        _check(texts, frames, batch_size, seed)
        self._spec, self._frames = FrameSpec(1, side, aspect), frames
        self._texts = {name: SEGMENT_TEXTS[name] for name in texts}
        self._seed, self._batch_size, self._drop_last = seed, batch_size, drop_last
        self._rank, self._world_size = _ranks(rank, world_size)
        places, folders = ([x] if isinstance(x, str | Path) else list(x) for x in (where, videos))
        self._videos = local_videos(places, folders)
        choice = Choice(selection or Selection(), None if words is None else Words(words))
        found = None if index is None else Index.read(Path(index))
        self._pool, absent = gather_pool(open_dataset(places), choice, found, self._videos)
        self._identity = self._pool.identity  # once, and not in every worker
        if absent:
            _log.warning("%s of the dataset not found: left out.", counted(absent, "video"))
        # Shared memory, so that persistent workers see changes from epoch to epoch.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._resumed = False  # since the last set_epoch

    def __len__(self) -> int:
        """Return how many batches of this epoch remain for this rank."""
        return len(self._dealing())

    def set_epoch(self, epoch: int) -> None:
        """Start this epoch, with its own order, at the next iteration.

        The first call after `load_state_dict` continues the epoch of that state, if it is this one.

        Raises:
            ValueError: epoch < 0.
        """
        if epoch < 0:
            raise ValueError(f"The epoch must be at least 0, not {epoch}.")
        if not (self._resumed and epoch == int(self._place[0])):
            self._place.copy_(torch.tensor([epoch, 0]))
        self._resumed = False

    def load_state_dict(self, state: State) -> None:
        """Resume after the batch that has this state, in the same epoch.

        Every iteration starts there until `set_epoch` is called for another epoch.

        Raises:
            ValueError: the state belongs to other segments or another seed.
        """
        if state.get("segments") != self._identity:
            raise ValueError("The state belongs to other segments.")
        if state["seed"] != self._seed:
            raise ValueError(f"The state belongs to seed {state['seed']}, not {self._seed}.")
        self._place.copy_(torch.tensor([state["epoch"], state["done"]]))
        self._resumed = True

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        dealing, epoch = self._dealing(), int(self._place[0])
        order = self._pool.order(self._seed, epoch)
        reported: set[str] = set()
        with Decoder() as decoder:
            for number in range(first, len(dealing), step):
                wanted = order[dealing.batch(number)].tolist()
                read = [self._read(segment, decoder, reported) for segment in wanted]
                samples = [sample for sample in read if sample is not None]
                if not samples:
                    reason = f"None of the {len(wanted)} segments of a batch can be read."
                    raise VideoError(f"{reason} Check the log for the reasons.")
                state = State(
                    seed=self._seed,
                    epoch=epoch,
                    segments=self._identity,
                    done=dealing.after(number),
                )
                yield self._batch(samples, state)

    def _read(self, segment: int, decoder: Decoder, reported: set[str]) -> _Sample | None:
        """Return a segment with its frames, or None, with a log message, if they cannot be read."""
        video, node = self._pool.read(segment, {*Selection.FIELDS, *self._texts.values()})
        at = int(video.batch.offsets[video.row]) + node
        start, end = stored_time(video.batch.start[at]), stored_time(video.batch.end[at])
        times = start + (np.arange(self._frames) + 0.5) / self._frames * (end - start)
        try:
            shown = decoder.frames_at(self._videos[video.uid], times.tolist(), self._spec)
        except VideoError as error:
            if video.uid not in reported:
                _log.warning(
                    "%s cannot be read, so its segments are left out: %s", video.uid, error
                )
                reported.add(video.uid)
            return None
        return _Sample(video, at, shown)

    def _dealing(self) -> Dealing:
        ranks = self._rank, self._world_size
        done = int(self._place[1])
        return Dealing(len(self._pool), done, self._batch_size, *ranks, self._drop_last)

    def _batch(self, samples: list[_Sample], state: State) -> Batch:
        rows = [(sample.video.batch, sample.node) for sample in samples]
        return Batch(
            frames=torch.from_numpy(np.stack([sample.shown.pixels for sample in samples])),
            times=torch.from_numpy(np.stack([sample.shown.times for sample in samples])),
            texts={
                name: [batch.field(path)[node].as_py() for batch, node in rows]
                for name, path in self._texts.items()
            },
            uid=[sample.video.uid for sample in samples],
            node_id=[str(batch.node_id[node].as_py()) for batch, node in rows],
            level=torch.tensor([int(batch.level[node]) for batch, node in rows]),
            start=torch.tensor(
                [stored_time(batch.start[node]) for batch, node in rows], dtype=torch.float64
            ),
            end=torch.tensor(
                [stored_time(batch.end[node]) for batch, node in rows], dtype=torch.float64
            ),
            state=state,
        )


@dataclass(frozen=True, eq=False)
class _Sample:
    """A segment: its video, its position in the rows read with it, and its frames."""

    video: Video
    node: int
    shown: FrameBatch


def _check(texts: Sequence[str], frames: int, batch_size: int, seed: int) -> None:
    if unknown := set(texts) - set(SEGMENT_TEXTS):
        raise ValueError(
            f"There is no text {sorted(unknown)}; choose from {', '.join(SEGMENT_TEXTS)}."
        )
    if frames < 1 or batch_size < 1:
        raise ValueError("A batch needs at least one segment, and a segment one frame.")
    if seed < 0:
        raise ValueError(f"The seed must be at least 0, not {seed}.")


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return the rank of this process and the number of ranks."""
    if (rank is None) != (world_size is None):
        raise ValueError("Give both rank and world_size, or neither.")
    if rank is None or world_size is None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise ValueError(f"There is no rank {rank} in a world of size {world_size}.")
    return rank, world_size
