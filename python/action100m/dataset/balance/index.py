"""The index that `balance` writes, for look-up by the segments of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from action100m.dataset.columns import Batch
from action100m.dataset.distinct import hashed
from action100m.errors import DatasetError
from action100m.text import first_line

_ROWS_AT_ONCE = 2**16


@dataclass(frozen=True, eq=False)
class Index:
    """How often to draw each of n segments; takes 24 bytes per segment.

    Attributes:
        hashes: (n,) uint64 hashes of uid and node id, increasing.
        weights: (n,) float64.
        draws: (n,) int64; None if the index has no draws.
    """

    hashes: NDArray[np.uint64]
    weights: NDArray[np.float64]
    draws: NDArray[np.int64] | None

    @classmethod
    def read(cls, path: Path) -> Index:
        """Read an index file.

        Raises:
            DatasetError: the file is not a valid index.
            OSError: the file cannot be read.
        """
        if not path.is_file():
            raise DatasetError(f"{path} is not an index from `balance`: there is no such file.")
        hashes, weights, draws = [], [], []
        try:
            with pq.ParquetFile(path) as file:
                dealt = "draws" in file.schema_arrow.names
                columns = ["video_uid", "node_id", "weight", *(["draws"] if dealt else [])]
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                    names = (batch.column(name).cast(pa.string()) for name in columns[:2])
                    hashes.append(_hashes(*names))
                    weights.append(batch.column("weight").to_numpy())
                    draws += [batch.column("draws").to_numpy().astype(np.int64)] if dealt else []
        except (pa.ArrowException, KeyError) as error:
            reason = first_line(error)
            raise DatasetError(f"{path} is not an index from `balance`: {reason}") from error
        if not hashes:
            raise DatasetError(f"The index {path} is empty.")
        found = np.concatenate(hashes)
        order = np.argsort(found)
        found = found[order]
        if (found[1:] == found[:-1]).any():
            raise DatasetError(f"The index {path} lists a segment twice.")
        dealt_draws = np.concatenate(draws)[order] if dealt else None
        return cls(found, np.concatenate(weights)[order], dealt_draws)

    def __len__(self) -> int:
        return len(self.hashes)

    def digest(self) -> str:
        """Return a digest of how often each segment is drawn; equivalent indexes share it."""
        digest = blake2b(self.hashes.data, digest_size=8)
        digest.update((self.weights if self.draws is None else self.draws).data)
        return digest.hexdigest()

    def find(self, batch: Batch) -> NDArray[np.int64]:
        """Return the position of each segment among the n, (m,); -1 if the index lacks it.

        Args:
            batch: a batch with "nodes.node_id".
        """
        uids = batch.uid.take(pa.array(batch.row))
        hashes = _hashes(uids, batch.node_id)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self) - 1)
        return np.where(self.hashes[places] == hashes, places, -1)

    def drawn(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return True for the places from `find` that are drawn, or may be without draws; (m,)."""
        there = places >= 0
        return there if self.draws is None else there & (self.draws[places] > 0)

    def lacked(self, found: int) -> DatasetError | None:
        """Return the error for a dataset with only `found` of the segments; None if it has all."""
        if found >= len(self):
            return None
        return DatasetError(
            f"The dataset lacks {len(self) - found:,} of the index's {len(self):,} segments; give "
            "the dataset that the index was made from."
        )


def _hashes(uids: pa.StringArray, node_ids: pa.StringArray) -> NDArray[np.uint64]:
    both = pc.binary_join_element_wise(uids, node_ids, "\0", null_handling="replace")
    return hashed(both)
