"""Embed texts as vectors: similar texts have near vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from action100m.checkpoint import CheckpointError, find_checkpoint
from action100m.errors import DatasetError
from action100m.extras import is_installed
from action100m.text import first_line

_AT_ONCE = 4096  # texts
_SPACE = 32
_GRAMS = (3, 4)  # characters
_SPREAD = 4  # dimensions that a feature contributes to, each given by 16 bits of its hash
_FIRST = 2  # leading words that count double: in a brief action, the verb and the object
_LONG = 8  # characters; longer words weigh no more than this
_POSITION, _WORD = np.uint64(2**32), np.uint64(2**48)


class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes:
        identity: identifies the vectors; embedders with other vectors have another identity.
        dimensions: d.
    """

    identity: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of length 1, (n, d): the dot product of two is their cosine."""
        ...


class HashedEmbedder:
    """Hashes words and their character n-grams onto about a hundred signed dimensions.

    Needs no model, and gives the same bits on every machine. Knows spelling, not meaning: "cut"
    is near "cutting", not near "slice". Works for any script. After Weinberger et al. (2009),
    "Feature hashing for large scale multitask learning".

    Attributes:
        identity: "hashed-" and the number of dimensions.
        dimensions: d.
    """

    def __init__(self, dimensions: int = 128) -> None:
        self.dimensions = dimensions
        self.identity = f"hashed-{dimensions}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of length 1, (n, d); all 0 for a text of white space alone."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for first in range(0, len(texts), _AT_ONCE):
            some = texts[first : first + _AT_ONCE]
            vectors[first : first + len(some)] = self._embedded(some)
        return vectors

    def _embedded(self, texts: Sequence[str]) -> NDArray[np.float64]:
        characters = _Characters(texts)
        size = len(texts) * self.dimensions
        # Sums of whole numbers are exact, in any order.
        sums = np.zeros(size)
        for hashes, owners, weights in characters.features():
            for bits in hashes.astype("<u8").view("<u2").reshape(-1, _SPREAD).T:
                places = owners * self.dimensions + (bits >> 1) % self.dimensions
                sums += np.bincount(places, np.where(bits & 1, weights, -weights), size)
        vectors = sums.reshape(len(texts), self.dimensions)
        length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        embedded: NDArray[np.float64] = vectors / np.maximum(length, 1)
        return embedded


class _Characters:
    """The characters of n texts in one array, with a space before and after each word and text."""

    def __init__(self, texts: Sequence[str]) -> None:
        padded = [f" {' '.join(text.casefold().split())} " for text in texts]
        line = "".join(padded).encode("utf-32-le", "surrogatepass")
        self._codes = np.frombuffer(line, "<u4").astype(np.uint64)
        self._owner = np.repeat(np.arange(len(padded)), [len(text) for text in padded])
        self._inside = self._codes != _SPACE

    def features(
        self,
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield hashes, the text that contains each, and their weights: words, then n-grams."""
        yield self._words()
        for length in _GRAMS:
            hashes, owners = self._grams(length)
            yield hashes, owners, np.ones(len(owners), np.int64)

    def _words(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the words. Longer words weigh more: "the", "of" and "to" tell little."""
        first = np.flatnonzero(self._inside[1:] & ~self._inside[:-1]) + 1
        last = np.flatnonzero(self._inside[:-1] & ~self._inside[1:])
        if not len(first):
            return np.empty(0, np.uint64), first, first
        lengths = last - first + 1
        places = np.flatnonzero(self._inside)
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        position = np.arange(len(places)) - np.repeat(starts, lengths)
        letters = _mixed(self._codes[places] + position.astype(np.uint64) * _POSITION + _WORD)
        hashes = _mixed(np.add.reduceat(letters, starts))
        owners = self._owner[first]
        rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
        weights = np.minimum(lengths, _LONG) * np.where(rank < _FIRST, 2, 1)
        return hashes, owners, weights

    def _grams(self, length: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Return the runs of `length` characters within a word and the spaces around it."""
        count = max(0, len(self._codes) - length + 1)
        whole = np.ones(count, bool)
        hashes = np.zeros(count, np.uint64)
        for offset in range(length):
            window = slice(offset, offset + count)
            if 0 < offset < length - 1:
                whole &= self._inside[window]
            hashes += _mixed(self._codes[window] + np.uint64(offset) * _POSITION)
        return _mixed(hashes[whole]), self._owner[:count][whole]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Apply the finaliser of SplitMix64 (Steele et al., 2014): each bit affects about half."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class SentenceEmbedder:
    """A sentence-transformers model: texts of similar meaning are near, whatever their words.

    Attributes:
        identity: the model's name and commit, or the SHA-256 of a local folder.
        dimensions: d.
    """

    def __init__(self, model: str) -> None:
        """Load the model, onto a GPU if there is one.

        Args:
            model: a local folder, or a name on the Hugging Face Hub, that sentence-transformers
                can open. Weights must be safetensors; code that comes with a model is not run.

        Raises:
            DatasetError: sentence-transformers is not installed, or the model cannot be loaded.
        """
        if not is_installed("sentence_transformers"):
            raise DatasetError(
                f"Embedding texts with {model} needs sentence-transformers: "
                "pip install 'action100m[embeddings]'."
            )
        try:
            found = find_checkpoint(model)  # before an import that takes seconds
            from sentence_transformers import SentenceTransformer

            self._model: Any = SentenceTransformer(
                str(found.folder), trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (CheckpointError, OSError, ValueError) as error:
            raise DatasetError(
                f"The model {model} cannot be loaded: {first_line(error)}"
            ) from error
        self.identity = found.identity
        self.dimensions = self.embed([""]).shape[1]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of length 1, (n, d)."""
        return self._encoded(self._model.encode, texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries for comparison with documents, for models that distinguish the two."""
        return self._encoded(self._model.encode_query, texts)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents for comparison with queries."""
        return self._encoded(self._model.encode_document, texts)

    def _encoded(
        self, encode: Callable[..., NDArray[np.float32]], texts: Sequence[str]
    ) -> NDArray[np.float32]:
        if not len(texts):
            return np.empty((0, self.dimensions), np.float32)
        vectors = encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(vectors, np.float32)
