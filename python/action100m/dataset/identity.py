"""Check that uids and node ids are unique across a set of files."""

from __future__ import annotations

import uuid
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.dataset.columns import Batch
from action100m.dataset.findings import Finding

_NIBBLE = np.zeros(256, np.uint8)
_NIBBLE[[*b"0123456789abcdef"]] = range(16)
_NIBBLE[[*b"ABCDEF"]] = range(10, 16)


class Uids:
    """All uids seen so far, with their places."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int]] = {}

    def add(self, file: str, batch: Batch) -> Iterator[Finding]:
        """Add a batch; yield a finding for each uid that was seen before."""
        for row, uid in enumerate(batch.uid.to_pylist(), batch.first_row):
            if not uid:
                continue
            first = self._seen.setdefault(uid, (file, row))
            if first != (file, row):
                message = f"video_uid also occurs in {first[0]}, row {first[1]}."
                yield Finding(file, "video_uid", message, row, uid)


class NodeIds:
    """All valid node ids seen so far, in 24 bytes each."""

    def __init__(self) -> None:
        self._halves: list[NDArray[np.uint64]] = []
        self._places: list[NDArray[np.int64]] = []  # node numbers across all files
        self._batches: list[tuple[str, int, pa.StringArray, NDArray[np.int64]]] = []
        self._count = 0

    def add(self, file: str, batch: Batch) -> None:
        """Add a batch."""
        valid = batch.valid_id
        self._halves.append(_halves(batch.node_id.filter(pa.array(valid))))
        self._places.append(self._count + np.flatnonzero(valid))
        self._batches.append((file, batch.first_row, batch.uid, self._count + batch.offsets))
        self._count += len(valid)

    def repeated(self, limit: int) -> tuple[list[Finding], int]:
        """Return findings for the first `limit` nodes with a repeated id, and the total number."""
        if not self._count:
            return [], 0
        high, low = np.concatenate(self._halves).T
        places = np.concatenate(self._places)
        order = np.lexsort((high, low))
        high, low, places = high[order], low[order], places[order]
        same = np.zeros(len(order), bool)
        same[1:] = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
        at = np.flatnonzero(same)
        at = at[np.argsort(places[at])[:limit]]
        pairs = zip(places[at].tolist(), places[first[at]].tolist(), strict=True)
        ids = (uuid.UUID(int=int(high[n]) << 64 | int(low[n])) for n in at)
        findings = [self._finding(node, *pair) for node, pair in zip(ids, pairs, strict=True)]
        return findings, int(same.sum())

    def _finding(self, node_id: uuid.UUID, node: int, earlier: int) -> Finding:
        file, row, uid, index = self._place(node)
        other, other_row, _, other_index = self._place(earlier)
        message = f"node_id also occurs in {other}, row {other_row}, node {other_index}."
        return Finding(file, "node_id", message, row, uid, index, str(node_id))

    def _place(self, node: int) -> tuple[str, int, str | None, int]:
        last = bisect_right(self._batches, node, key=lambda batch: int(batch[3][0])) - 1
        file, first_row, uids, offsets = self._batches[last]
        row = int(np.searchsorted(offsets, node, "right")) - 1
        return file, first_row + row, uids[row].as_py(), node - int(offsets[row])


def _halves(ids: pa.StringArray) -> NDArray[np.uint64]:
    """Return the two 64-bit halves of k valid UUIDs, (k, 2)."""
    if not len(ids):
        return np.empty((0, 2), np.uint64)
    _, offsets, characters = ids.buffers()
    first = int(np.frombuffer(offsets, np.int32)[ids.offset])
    text = np.frombuffer(characters, np.uint8)[first : first + 36 * len(ids)].reshape(-1, 36)
    nibbles = _NIBBLE[np.delete(text, [8, 13, 18, 23], axis=1)]
    octets = np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2])
    return octets.view(">u8").astype(np.uint64)
