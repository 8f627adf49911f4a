"""Find segments by meaning: an embedding model measures how similar a query and a text are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.actions import is_action
from action100m.dataset.columns import Batch
from action100m.dataset.embeddings import SentenceEmbedder
from action100m.dataset.search import Found

_SAYING = ("gpt.action.brief", "plm_action", "gpt.summary.brief", "plm_caption", "llama3_caption")


class ByMeaning:
    """Ranks segments by the cosine between their embedding and the query's.

    The embedding of a segment is that of one text: the first one that it has among `fields`.
    """

    fields = tuple(f"nodes.{name}" for name in _SAYING)

    def __init__(self, query: str, model: str) -> None:
        """Load the model.

        Args:
            query: any words that the model understands.
            model: see `SentenceEmbedder`.

        Raises:
            DatasetError: see `SentenceEmbedder`.
        """
        self._embedder = SentenceEmbedder(model)
        self._query = self._embedder.embed_queries([query])[0]

    def find(self, batch: Batch, chosen: NDArray[np.bool_]) -> Iterator[Found]:
        """Yield the chosen segments, grouped by the field whose text is embedded."""
        left = chosen.copy()
        for name in _SAYING:
            texts = batch.field(f"nodes.{name}")
            nodes = np.flatnonzero(left & is_action(texts))
            left[nodes] = False
            if len(nodes):
                likeness = self._likeness(texts.take(pa.array(nodes)))
                yield Found(name, texts, nodes, nodes, -likeness, scored=True)

    def _likeness(self, texts: pa.StringArray) -> NDArray[np.float64]:
        """Return the cosines, (n,); equal texts are embedded once."""
        encoded = pc.dictionary_encode(texts)
        vectors = self._embedder.embed_documents(encoded.dictionary.to_pylist())
        return np.asarray((vectors @ self._query)[encoded.indices.to_numpy()], np.float64)
