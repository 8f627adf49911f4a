"""Count very many distinct strings in little memory."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NAMED = 20_000


class HashCounts:
    """Counts distinct strings by their 8-byte hashes.

    Each distinct string takes 16 bytes. The probability that any two of ten million strings have
    the same hash is three in a million.

    Attributes:
        hashes: (n,) uint64, increasing.
        counts: (n,) int64, count of each.
    """

    def __init__(self) -> None:
        self.hashes = np.empty(0, np.uint64)
        self.counts = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.hashes)

    def add(self, hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Add `counts`, (k,), to the counts of the distinct `hashes`, (k,).

        Returns:
            (k,) True for hashes that were not counted before.
        """
        at = np.searchsorted(self.hashes, hashes)
        known = np.zeros(len(at), bool)
        inside = at < len(self)
        known[inside] = self.hashes[at[inside]] == hashes[inside]
        self.counts[at[known]] += counts[known]
        new = np.flatnonzero(~known)
        new = new[np.argsort(hashes[new])]
        self.hashes = np.insert(self.hashes, at[new], hashes[new])
        self.counts = np.insert(self.counts, at[new], counts[new])
        return ~known

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the position of each hash among the n, (k,); it must have been counted."""
        return np.searchsorted(self.hashes, hashes)


class Distinct:
    """Counts distinct strings like HashCounts, and keeps the most frequent ones themselves.

    Attributes:
        named: how many of the most frequent strings are kept.
    """

    def __init__(self, named: int = NAMED) -> None:
        self.named = named
        self._counted = HashCounts()
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._counted)

    def add(self, texts: pa.StringArray, counts: NDArray[np.int64]) -> None:
        """Add `counts`, (k,), to the counts of the distinct `texts`, (k,)."""
        hashes = hashed(texts)
        self._counted.add(hashes, counts)
        self._name(dict(zip(hashes.tolist(), texts.to_pylist(), strict=True)))

    def _name(self, fresh: dict[int, str]) -> None:
        """Update the names: a string that is newly among the most frequent was just counted."""
        self._names = {
            number: self._names.get(number) or fresh[number]
            for number in self._counted.hashes[self._most_frequent()].tolist()
        }

    def _most_frequent(self) -> NDArray[np.int64]:
        """Return the positions of the `named` highest counts; ties go to the lowest hashes."""
        if len(self) <= self.named:
            return np.arange(len(self))
        least = np.partition(self._counted.counts, -self.named)[-self.named]
        above = np.flatnonzero(self._counted.counts > least)
        equal = np.flatnonzero(self._counted.counts == least)
        return np.concatenate([above, equal[: self.named - len(above)]])

    def counts(self) -> NDArray[np.int64]:
        """Return how often each distinct string occurs, (n,), most frequent first."""
        return np.sort(self._counted.counts)[::-1]

    def most_frequent(self, limit: int = NAMED) -> list[tuple[str, int]]:
        """Return the `limit` most frequent strings that are kept, with their counts."""
        places = self._most_frequent()
        counts = zip(
            self._counted.hashes[places].tolist(),
            self._counted.counts[places].tolist(),
            strict=True,
        )
        named = [(self._names[number], count) for number, count in counts]
        return sorted(named, key=lambda pair: (-pair[1], pair[0]))[:limit]


def hashed(texts: pa.StringArray) -> NDArray[np.uint64]:
    """Return a hash of each text, (k,), the same on every machine; no text may be null."""
    strings = texts.cast(pa.binary()).to_pylist()
    digests = b"".join(blake2b(string, digest_size=8).digest() for string in strings)
    return np.frombuffer(digests, "<u8").astype(np.uint64)
