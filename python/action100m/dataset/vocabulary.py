"""Count the brief actions of a dataset: whole actions, verbs, and words."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.actions import normalised
from action100m.dataset.distinct import Distinct

_AT_ONCE = 2**20  # actions; each distinct one among them is normalised once
_BYTES = 2**28  # of these actions; an Arrow array holds at most 2^31


@dataclass
class Vocabulary:
    """Counts brief actions as they arrive.

    Attributes:
        actions: distinct actions, normalised.
        verbs: their first words.
        words: all of their words.
    """

    actions: Distinct = field(default_factory=Distinct)
    verbs: Distinct = field(default_factory=Distinct)
    words: Distinct = field(default_factory=Distinct)
    _waiting: list[pa.StringArray] = field(default_factory=list)
    _length: int = 0
    _bytes: int = 0

    def add(self, briefs: pa.StringArray) -> None:
        """Add `gpt.action.brief` of some segments, including null and "N/A"."""
        given = briefs.drop_null()
        self._waiting.append(given)
        self._length += len(given)
        self._bytes += given.nbytes
        if self._length >= _AT_ONCE or self._bytes >= _BYTES:
            self.finish()

    def finish(self) -> None:
        """Count the actions that are still waiting."""
        if not self._length:
            return
        counted = normalised(pa.concat_arrays(self._waiting)).drop_null().value_counts()
        self._waiting, self._length, self._bytes = [], 0, 0
        texts, counts = counted.field("values"), counted.field("counts").to_numpy()
        self.actions.add(texts, counts)
        words = pc.split_pattern(texts, " ")
        places = pc.list_parent_indices(words).to_numpy()
        self.words.add(*_summed(words.flatten(), counts[places]))
        self.verbs.add(*_summed(pc.list_element(words, 0), counts))


def _summed(
    texts: pa.StringArray, counts: NDArray[np.int64]
) -> tuple[pa.StringArray, NDArray[np.int64]]:
    """Return the distinct texts, each with the sum of its counts."""
    encoded = texts.dictionary_encode()
    totals = np.bincount(encoded.indices.to_numpy(), counts, len(encoded.dictionary))
    return encoded.dictionary, totals.astype(np.int64)
