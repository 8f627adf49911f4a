"""Collect a dataset's brief actions on disk: each distinct one once, each segment as a hash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.dataset.actions import normalised
from action100m.dataset.columns import Batch, present
from action100m.dataset.distinct import HashCounts, hashed
from action100m.dataset.identity import Uids
from action100m.dataset.read import Dataset
from action100m.dataset.select import Selection
from action100m.errors import DatasetError

BRIEF = "nodes.gpt.action.brief"
_AT_ONCE, _BYTES = 2**18, 2**28  # limits of a chunk: segments, bytes
_TEXTS = pa.schema([("text", pa.string()), ("hash", pa.uint64())])
_SEGMENTS = pa.schema([("video_uid", pa.string()), ("node_id", pa.string()), ("hash", pa.uint64())])


@dataclass
class Gathered:
    """The result of reading the dataset once; only the n distinct actions take memory.

    Attributes:
        folder: contains the two files.
        distinct: hashes of the n actions, and the number of segments of each.
        segments: number of segments with an action.
        null, no_action: number of selected segments whose action is null, or a spelling of "N/A".
    """

    folder: Path
    distinct: HashCounts = field(default_factory=HashCounts)
    segments: int = 0
    null: int = 0
    no_action: int = 0

    def texts(self) -> tuple[pa.ChunkedArray, NDArray[np.int64]]:
        """Return the actions in the order of the dataset, (n,), mapped and not loaded; and the
        position of each in `distinct`, (n,)."""
        table = pa.ipc.open_file(pa.memory_map(str(self._texts))).read_all()
        return table.column("text"), self.distinct.find(table.column("hash").to_numpy())

    def batches(self) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
        """Yield the segments in the order of the dataset: video_uid, node_id and hash; and the
        position of each segment's action in `distinct`."""
        with pa.ipc.open_file(str(self._segments)) as file:
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                yield batch, self.distinct.find(batch.column("hash").to_numpy())

    @property
    def _texts(self) -> Path:
        return self.folder / "texts.arrow"

    @property
    def _segments(self) -> Path:
        return self.folder / "segments.arrow"


def gather(dataset: Dataset, selection: Selection, folder: Path) -> Gathered:
    """Read the dataset once.

    Args:
        dataset: a dataset of any size.
        selection: the segments to collect.
        folder: an empty folder; takes about 60 bytes per segment and per distinct action.

    Raises:
        DatasetError: a file cannot be read, and the dataset has no `on_error`; or two rows have the
            same uid, so that their segments could not be told apart.
        OSError: the folder's disk is full.
    """
    found = Gathered(folder)
    packed = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.ipc.new_file(str(found._texts), _TEXTS) as texts,
        pa.ipc.new_file(str(found._segments), _SEGMENTS, options=packed) as segments,
    ):
        for acting in _in_heaps(_acting(dataset, selection, found)):
            actions = acting.column("action").combine_chunks().dictionary_encode()
            hashes, places = hashed(actions.dictionary), actions.indices.to_numpy()
            new = found.distinct.add(hashes, np.bincount(places, minlength=len(hashes)))
            fresh = [actions.dictionary.filter(pa.array(new)), pa.array(hashes[new])]
            texts.write_batch(pa.record_batch(fresh, schema=_TEXTS))
            names = [acting.column(name).combine_chunks() for name in ("video_uid", "node_id")]
            rows = pa.record_batch([*names, pa.array(hashes[places])], schema=_SEGMENTS)
            segments.write_batch(rows)
            found.segments += len(rows)
    return found


def _acting(dataset: Dataset, selection: Selection, found: Gathered) -> Iterator[pa.Table]:
    """Yield the selected segments that have an action; count the others."""
    uids = Uids()
    for source, batch in dataset.batches({*Selection.FIELDS, BRIEF}):
        for repeated in uids.add(source.name, batch):
            raise DatasetError(str(repeated))
        chosen = selection.mask(batch)
        briefs = batch.field(BRIEF)
        actions = normalised(briefs)
        acting = chosen & present(actions)
        null = int((chosen & ~present(briefs)).sum())
        found.null += null
        found.no_action += int(chosen.sum() - acting.sum()) - null
        yield _table(batch, actions, acting)


def _table(batch: Batch, actions: pa.StringArray, acting: NDArray[np.bool_]) -> pa.Table:
    nodes = pa.array(np.flatnonzero(acting))
    return pa.table(
        {
            "video_uid": batch.uid.take(pa.array(batch.row[acting])),
            "node_id": batch.node_id.take(nodes),
            "action": actions.take(nodes),
        }
    )


def _in_heaps(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows in large tables: an action that repeats within one is hashed only once."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        waiting.append(table)
        rows, size = rows + len(table), size + table.nbytes
        if rows >= _AT_ONCE or size >= _BYTES:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if rows:
        yield pa.concat_tables(waiting)
