"""Search with a tiny embedding model of random weights: only equal texts mean the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import action100m
from action100m import DatasetError
from action100m.dataset.balance import balance
from action100m.dataset.embeddings import SentenceEmbedder
from action100m.dataset.meaning import ByMeaning
from action100m.dataset.search import search
from action100m.dataset.select import Selection
from rows import as_python, batches, rows_with_briefs, write_rows

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(100))]
_WORDS += ["words", "about", "node", "fold", "paper", "the", "n", "/", "a"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is optional: pip install 'action100m[embeddings]'")
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    import checkpoints  # noqa: F401, PLC0415 (or torchvision may not be imported)

    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(_WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(_WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    return folder / "bert"  # opened with mean pooling


def test_the_most_similar_texts_rank_first(model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    rows = as_python(batches(4, annotated=True))
    node = next(n for n in rows[2]["nodes"] if n["gpt"] and n["level"] > 1)
    node["gpt"]["action"]["brief"] = "fold the paper"
    data = action100m.open(write_rows(tmp_path / "a.parquet", rows))
    hits = search(data, ByMeaning("fold the paper", str(model)), Selection(max_level=4), 25)
    assert (hits[0].node_id, hits[0].field) == (node["node_id"], "gpt.action.brief")
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    # "N/A" does not describe a segment: the others are ranked by their plm_action.
    assert {hit.field for hit in hits[1:]} == {"plm_action"}
    embeddings = SentenceTransformer(str(model)).encode(
        ["fold the paper", hits[5].text], normalize_embeddings=True
    )
    assert hits[5].score == pytest.approx(float(np.dot(*embeddings)), abs=1e-5)


def test_a_model_that_cannot_be_loaded_is_an_error(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be loaded"):
        ByMeaning("fold", str(tmp_path))


def test_balancing_accepts_a_model(model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    embedder = SentenceEmbedder(str(model))
    texts = ["fold the paper", "about a node"]
    wanted = SentenceTransformer(str(model)).encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(embedder.embed(texts), wanted, atol=1e-6)
    assert embedder.embed([]).shape == (0, embedder.dimensions) == (0, 32)
    rows = rows_with_briefs(2, [f"fold paper {number}" for number in range(7)])
    data = action100m.open(write_rows(tmp_path / "a.parquet", rows))
    pytest.importorskip("faiss", reason="clustering needs faiss")
    result = balance(data, tmp_path / "index.parquet", clusters=3, embedder=embedder)
    assert result.settings.embedder == embedder.identity
    assert len(set(result.clusters.tolist())) == 3
