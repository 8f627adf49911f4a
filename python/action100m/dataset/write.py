"""Convert trees to rows of the published schema, and write rows as Parquet shards atomically."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from action100m.dataset.swap import replaced
from action100m.schema import HUNDREDTHS, METADATA, NODE, SCHEMA, to_hundredths
from action100m.tree import Tree

NODE_NAMESPACE = uuid.UUID("5d1f6c0e-9a43-4c58-8f0b-6f3c2f7f0a1e")
SHARD_NAME = re.compile(r"train-([0-9]{5,})-of-([0-9]{5,})\.parquet")
ROWS_PER_GROUP = 5


def node_rows(
    uid: str, tree: Tree, annotations: Mapping[str, pa.Array] | None = None
) -> pa.StructArray:
    """Return the nodes of one video in the published schema.

    Ids are UUIDv5 of the uid and the rounded times, so that a rerun gives the same ids.

    Args:
        uid: uid of the video.
        tree: m segments, with unrounded times in seconds; they are rounded here.
        annotations: arrays of m values by field of the schema's node ("plm_caption", "gpt"…);
            a field without an array is null.

    Returns:
        (m,) nodes of type schema.NODE, in the order of the tree.

    Raises:
        ValueError: two segments have the same rounded times, or an annotation has an unknown field
            or the wrong length.
    """
    start, end = to_hundredths(tree.start), to_hundredths(tree.end)
    ids = [
        str(uuid.uuid5(NODE_NAMESPACE, f"{uid}\n{int(a)}\n{int(b)}"))
        for a, b in zip(start, end, strict=True)
    ]
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"Video {uid}: two segments have the same times after rounding to hundredths of a "
            "second; cut the tree with a larger min_duration."
        )
    columns = {
        "node_id": pa.array(ids, pa.string()),
        "parent_id": pa.array(
            [None if parent < 0 else ids[parent] for parent in tree.parent.tolist()], pa.string()
        ),
        "level": pa.array(tree.level, pa.int16()),
        "start": pa.array((start / HUNDREDTHS).astype(np.float32)),
        "end": pa.array((end / HUNDREDTHS).astype(np.float32)),
        **(annotations or {}),
    }
    if unknown := columns.keys() - {field.name for field in NODE}:
        raise ValueError(f"A node has no field named {', '.join(sorted(unknown))}.")
    arrays = [columns.get(field.name, pa.nulls(len(tree), field.type)) for field in NODE]
    return pa.StructArray.from_arrays(arrays, fields=list(NODE))


def video_row(uid: str, metadata: Mapping[str, object], nodes: pa.StructArray) -> pa.RecordBatch:
    """Return the row of one video.

    Args:
        uid: uid of the video.
        metadata: values by field of schema.METADATA; missing fields are null.
        nodes: nodes from `node_rows`.
    """
    offsets = pa.array([0, len(nodes)], pa.int32())
    columns = [
        pa.array([uid], pa.string()),
        pa.array([metadata], METADATA),
        pa.ListArray.from_arrays(offsets, nodes, type=SCHEMA.field("nodes").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def write_shards(
    rows: Iterable[pa.RecordBatch],
    folder: Path,
    total: int,
    file_metadata: Mapping[str, str],
    rows_per_shard: int,
) -> list[Path]:
    """Write the dataset and put it in place of the one in `folder`.

    The bytes depend only on the arguments (and on pyarrow's version). At most one row group is held
    in memory. If anything fails, `folder` keeps its content; after a kill between the two renames
    that swap the folders, the next call restores the old one first. A second export to the same
    folder waits for the first. A dataset without videos is one shard without rows.

    Args:
        rows: batches of schema.SCHEMA, strictly increasing in `video_uid`.
        folder: a new folder, or one that this function wrote.
        total: number of rows that will come.
        file_metadata: key-value metadata for every file.
        rows_per_shard: videos per file.

    Returns:
        The files, train-00000-of-000NN.parquet, in order.

    Raises:
        ValueError: there are not `total` rows, or rows are out of order or of another schema.
        FileExistsError: `folder` contains something other than a dataset.
        OSError: a file cannot be written.
    """
    shards = split_into_shards(total, rows_per_shard)
    with replaced(folder, SHARD_NAME) as fresh:
        counted = _counted(rows, total)
        for name, part in shards.items():
            write_shard(fresh / name, islice(counted, part.stop - part.start), file_metadata)
        next(counted, None)  # the last shard may have ended before the count was checked
    return [folder / name for name in shards]


def split_into_shards(total: int, rows_per_shard: int) -> dict[str, slice]:
    """Return which of `total` rows each file of a dataset contains, by its name; at least one."""
    count = max(1, -(-total // rows_per_shard))
    starts = (number * rows_per_shard for number in range(count))
    return {
        f"train-{number:05d}-of-{count:05d}.parquet": slice(
            start, min(start + rows_per_shard, total)
        )
        for number, start in enumerate(starts)
    }


def write_shard(
    path: Path, rows: Iterable[pa.RecordBatch], file_metadata: Mapping[str, str]
) -> None:
    """Write one file of a dataset from batches of one row each, whose order is not checked.

    Raises:
        OSError: the file cannot be written.
    """
    with _Shard(path, file_metadata) as shard:
        for row in rows:
            shard.add(row)


def _counted(rows: Iterable[pa.RecordBatch], total: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows one by one; raise ValueError if there are not `total`, or not in order."""
    count, previous = 0, None
    for batch in rows:
        if not batch.schema.equals(SCHEMA):
            raise ValueError(f"A row does not have the published schema, but {batch.schema}.")
        for at in range(len(batch)):
            row = batch.slice(at, 1)
            uid = row.column("video_uid")[0].as_py()
            if previous is not None and not previous < uid:
                raise ValueError(
                    f"Rows must come in the order of their uids: {uid} after {previous}."
                )
            if count == total:
                raise ValueError(f"{total} rows were announced, but there are more: {uid}.")
            yield row
            count, previous = count + 1, uid
    if count < total:
        raise ValueError(f"{total} rows were announced, but only {count} came.")


class _Shard:
    """One Parquet file: rows in groups of five, on the disk once closed."""

    def __init__(self, path: Path, file_metadata: Mapping[str, str]) -> None:
        self._path = path
        self._rows: list[pa.RecordBatch] = []
        schema = SCHEMA.with_metadata(dict(sorted(file_metadata.items())))
        with self._explained():
            self._file = path.open("wb")
            self._writer = pq.ParquetWriter(
                self._file, schema, compression="snappy", write_page_checksum=True
            )

    def add(self, row: pa.RecordBatch) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            with self._explained():
                self._flush()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._rows, SCHEMA))
        self._rows = []

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError) if kind else self._explained(), self._file:
            with self._writer:
                if self._rows and not kind:
                    self._flush()
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"{error.strerror or error}; the dataset that was there before is unchanged"
            raise OSError(error.errno, reason, str(self._path)) from error
