"""Segments found by meaning: an embedding model says how alike a query and a text are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.actions import is_action
from action100m.dataset.columns import Batch
from action100m.dataset.search import Found
from action100m.dataset.sources import DatasetError, first_line

_SAYING = ("gpt.action.brief", "plm_action", "gpt.summary.brief", "plm_caption", "llama3_caption")
_TEXTS_AT_ONCE = 64


class ByMeaning:
    """Ranks by the cosine between the query's embedding and each segment's.

    A segment is embedded by one text: the first that it has of its action, its summary and its
    captions.
    """

    fields = tuple(f"nodes.{name}" for name in _SAYING)

    def __init__(self, query: str, model: str) -> None:
        """Load the model.

        Args:
            query: in whatever words the model understands.
            model: a folder, or a name on the Hugging Face Hub, that sentence-transformers opens.
                Weights must be safetensors; code that comes with a model is not run.

        Raises:
            DatasetError: sentence-transformers is not installed, or cannot load it.
        """
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        except ImportError as error:
            raise DatasetError(
                "A search by meaning needs: pip install 'action100m[embeddings]'."
            ) from error
        try:
            self._model: Any = SentenceTransformer(
                model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"The model {model} cannot be loaded: {first_line(error)}"
            ) from error
        self._query = self._embed([query], self._model.encode_query)[0]

    def find(self, batch: Batch, chosen: NDArray[np.bool_]) -> Iterator[Found]:
        """Yields the chosen segments, by the field that each is embedded by."""
        left = chosen.copy()
        for name in _SAYING:
            texts = batch.field(f"nodes.{name}")
            nodes = np.flatnonzero(left & is_action(texts))
            left[nodes] = False
            if len(nodes):
                likeness = self._likeness(texts.take(pa.array(nodes)))
                yield Found(name, texts, nodes, nodes, -likeness, scored=True)

    def _likeness(self, texts: pa.StringArray) -> NDArray[np.float64]:
        """(n,) cosines; equal texts are embedded once."""
        encoded = pc.dictionary_encode(texts)
        vectors = self._embed(encoded.dictionary.to_pylist(), self._model.encode_document)
        return np.asarray((vectors @ self._query)[encoded.indices.to_numpy()])

    def _embed(self, texts: list[str], encode: Any) -> NDArray[np.float64]:
        """(n, d) embeddings of length 1."""
        vectors = encode(
            texts,
            batch_size=_TEXTS_AT_ONCE,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, np.float64)
