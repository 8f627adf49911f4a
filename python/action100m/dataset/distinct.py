"""How often each of very many strings occurs, in little memory."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NAMED = 20_000


class Distinct:
    """Counts distinct strings by hashes of 8 bytes; knows the most frequent ones by name.

    A distinct string takes 16 bytes. That two of ten million have one hash has a probability of
    three in a million.

    Attributes:
        named: how many of the most frequent strings are known by name.
    """

    def __init__(self, named: int = NAMED) -> None:
        self.named = named
        self._hashes = np.empty(0, np.uint64)  # sorted
        self._counts = np.empty(0, np.int64)
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, texts: pa.StringArray, counts: NDArray[np.int64]) -> None:
        """Count each of the (k,) distinct `texts` as often as `counts` says."""
        names = texts.to_pylist()
        hashes = _hashes(names)
        at = np.searchsorted(self._hashes, hashes)
        known = np.zeros(len(at), bool)
        inside = at < len(self)
        known[inside] = self._hashes[at[inside]] == hashes[inside]
        self._counts[at[known]] += counts[known]
        new = np.flatnonzero(~known)
        new = new[np.argsort(hashes[new])]
        self._hashes = np.insert(self._hashes, at[new], hashes[new])
        self._counts = np.insert(self._counts, at[new], counts[new])
        self._name(dict(zip(hashes.tolist(), names, strict=True)))

    def _name(self, fresh: dict[int, str]) -> None:
        """What is among the most frequent now and was not before, has just been counted."""
        self._names = {
            number: self._names.get(number) or fresh[number]
            for number in self._hashes[self._most_frequent()].tolist()
        }

    def _most_frequent(self) -> NDArray[np.int64]:
        """Places of the `named` highest counts; of equal ones those with the lowest hashes."""
        if len(self) <= self.named:
            return np.arange(len(self))
        least = np.partition(self._counts, -self.named)[-self.named]
        above = np.flatnonzero(self._counts > least)
        equal = np.flatnonzero(self._counts == least)
        return np.concatenate([above, equal[: self.named - len(above)]])

    def counts(self) -> NDArray[np.int64]:
        """(n,) how often each distinct string occurs, the most frequent first."""
        return np.sort(self._counts)[::-1]

    def most_frequent(self, limit: int = NAMED) -> list[tuple[str, int]]:
        """The `limit` most frequent strings that are known by name, with their counts."""
        places = self._most_frequent()
        counts = zip(self._hashes[places].tolist(), self._counts[places].tolist(), strict=True)
        named = [(self._names[number], count) for number, count in counts]
        return sorted(named, key=lambda pair: (-pair[1], pair[0]))[:limit]


def _hashes(texts: list[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, np.uint64)
