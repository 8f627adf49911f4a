"""Similar texts share a cluster, each text is embedded once, and errors are explained."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from action100m import DatasetError
from action100m.dataset.balance import clusters as module
from action100m.dataset.balance.clusters import cluster
from action100m.dataset.embeddings import HashedEmbedder

DIMENSIONS = 8


class Topics:
    """Embeds "TOPIC NUMBER" near the axis of its topic; counts the embedded texts."""

    identity, dimensions = "topics", DIMENSIONS

    def __init__(self) -> None:
        self.embedded = Counter[str]()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded.update(texts)
        pairs = np.array([text.split() for text in texts], int).reshape(-1, 2)
        vectors = np.eye(DIMENSIONS)[pairs[:, 0]] + 1e-3 * np.sin(pairs[:, 1:] + np.arange(8))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / lengths, np.float32)


def strings(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([texts], pa.string())


@given(st.integers(0, 30), st.integers(1, 40))
def test_with_enough_clusters_each_text_has_its_own(n: int, clusters: int) -> None:
    texts = strings([f"0 {number}" for number in range(min(n, clusters))])
    found = cluster(texts, Topics(), clusters, np.random.default_rng(0))
    assert len(set(found.tolist())) == len(found) == len(texts)


@pytest.mark.parametrize("at_once", [50, 2**16])
def test_similar_texts_share_a_cluster_and_are_embedded_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss", reason="clustering needs faiss")
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    texts = [f"{number % 2} {number}" for number in range(900)]  # 2 * 64 train the centroids
    topics = Topics()
    found = cluster(strings(texts), topics, 2, np.random.default_rng(1)).tolist()
    assert set(found) == {0, 1}
    assert len({(text[0], label) for text, label in zip(texts, found, strict=True)}) == 2
    assert topics.embedded == dict.fromkeys(texts, 1)


def test_the_same_seed_gives_the_same_clusters() -> None:
    pytest.importorskip("faiss", reason="clustering needs faiss")
    texts = strings([f"{number % 8} {number}" for number in range(600)])
    first, again, other = (
        cluster(texts, Topics(), 5, np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


class Broken(Topics):
    """A model that returns values that are not numbers."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), DIMENSIONS), np.nan, np.float32)


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DatasetError, match="topics gives embeddings that are not finite"):
        cluster(strings(["0 1", "0 2", "0 3"]), Broken(), 2, np.random.default_rng(0))


def test_without_faiss_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DatasetError, match=r"pip install 'action100m\[balance\]'"):
        cluster(strings(["0 1", "0 2", "0 3"]), Topics(), 2, np.random.default_rng(0))


def test_without_a_model_similar_spellings_are_close() -> None:
    words = ["stir the sauce", "stir the sauces", "paint a plank"]
    one, like, other = HashedEmbedder().embed(words)
    assert one @ like > 0.7
    assert one @ other < 0.3
