"""Cluster distinct actions by k-means on their embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.dataset.embeddings import Embedder
from action100m.errors import DatasetError

PER_CLUSTER = 64  # training texts per centroid, at most
_ROUNDS = 20
_AT_ONCE = 2**16  # texts


def cluster(
    texts: pa.ChunkedArray, embedder: Embedder, clusters: int, generator: np.random.Generator
) -> NDArray[np.int32]:
    """Cluster texts by spherical k-means; each text is embedded once.

    The centroids are trained on a random sample of at most 64 texts per centroid, whose embeddings
    are held in memory. The other texts are embedded and assigned in batches.

    Args:
        texts: (n,) distinct texts.
        embedder: its vectors define which texts are similar.
        clusters: K. If there are at most K texts, each is its own cluster.
        generator: chooses the sample and the first centroids.

    Returns:
        (n,) cluster of each text, from 0 to K-1. Clusters may be empty.

    Raises:
        DatasetError: faiss is not installed, or the embedder returns numbers that are not finite.
    """
    n = len(texts)
    if n <= clusters:
        return np.arange(n, dtype=np.int32)
    sampled = np.zeros(n, bool)
    sampled[generator.permutation(n)[: clusters * PER_CLUSTER]] = True
    vectors = np.concatenate(
        [
            _embedded(embedder, texts.slice(first, _AT_ONCE).filter(sampled[_span(first)]))
            for first in range(0, n, _AT_ONCE)
        ]
    )
    kmeans = _trained(vectors, clusters, int(generator.integers(2**31)))
    found = np.empty(n, np.int32)
    found[sampled] = _assigned(kmeans, vectors)
    for first in range(0, n, _AT_ONCE):
        left = ~sampled[_span(first)]
        if left.any():
            rest = _embedded(embedder, texts.slice(first, _AT_ONCE).filter(left))
            found[_span(first)][left] = _assigned(kmeans, rest)
    return found


def _span(first: int) -> slice:
    return slice(first, first + _AT_ONCE)


def _embedded(embedder: Embedder, texts: pa.ChunkedArray) -> NDArray[np.float32]:
    vectors = embedder.embed(texts.to_pylist())
    if not np.isfinite(vectors).all():
        raise DatasetError(f"{embedder.identity} gives embeddings that are not finite numbers.")
    return vectors


def _trained(vectors: NDArray[np.float32], clusters: int, seed: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise DatasetError("Clustering needs faiss: pip install 'action100m[balance]'.") from error
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        clusters,
        niter=_ROUNDS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,  # faiss prints a warning below its default, 39
        max_points_per_centroid=PER_CLUSTER,
    )
    kmeans.train(vectors)
    return kmeans


def _assigned(kmeans: Any, vectors: NDArray[np.float32]) -> NDArray[np.int32]:
    nearest: NDArray[np.int32] = np.concatenate(
        [
            kmeans.assign(vectors[first : first + _AT_ONCE])[1].astype(np.int32)
            for first in range(0, len(vectors), _AT_ONCE)
        ]
    )
    return nearest
