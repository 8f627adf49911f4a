"""Write an index that says how often to draw each segment of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from action100m.dataset.balance.clusters import cluster
from action100m.dataset.balance.gather import Gathered, gather
from action100m.dataset.balance.weights import Draws, effective_number, text_weights
from action100m.dataset.embeddings import Embedder, HashedEmbedder
from action100m.dataset.read import Dataset
from action100m.dataset.select import Selection
from action100m.errors import DatasetError, NothingToDoError
from action100m.files import TEMPORARY, write_atomically
from action100m.text import counted

_COLUMNS = [
    ("video_uid", pa.string()),
    ("node_id", pa.string()),
    ("cluster", pa.int32()),
    ("weight", pa.float64()),
]
_DRAWS = ("draws", pa.int64())


@dataclass(frozen=True)
class IndexSettings:
    """What the index depends on besides the data.

    Attributes:
        clusters: K.
        samples: number of draws; None: no column `draws`.
        seed: seed of the centroids and the draws.
        embedder: identity of the embedder.
    """

    clusters: int
    samples: int | None
    seed: int
    embedder: str


@dataclass(frozen=True, eq=False)
class Balanced:
    """The result of balancing, before and after.

    Attributes:
        settings: the settings of the index.
        segments: number of rows in the index.
        null, no_action: number of selected segments that were left out (see `Gathered`).
        clusters: (n,) cluster of each distinct action.
        before: (n,) share of the segments that have each action.
        after: (n,) probability of each action under the weights.
    """

    settings: IndexSettings
    segments: int
    null: int
    no_action: int
    clusters: NDArray[np.int32]
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def tails(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Shares before and after, of the "actions" and of the non-empty "clusters"."""
        _, place = np.unique(self.clusters, return_inverse=True)
        before, after = (np.bincount(place, shares) for shares in (self.before, self.after))
        clusters = before.astype(np.float64), after.astype(np.float64)
        return {"actions": (self.before, self.after), "clusters": clusters}

    def lines(self) -> Iterator[str]:
        """Yield the result as lines of text."""
        clusters = len(self.tails["clusters"][0])
        yield (
            f"{counted(self.segments, 'segment')} with {counted(len(self.before), 'action')} "
            f"in {counted(clusters, 'cluster')}"
        )
        yield f"left out: {self.null:,} without an action, {self.no_action:,} with N/A"
        if len(self.before) <= self.settings.clusters:
            yield (
                f"{self.settings.clusters:,} clusters were requested; there are no more distinct "
                "actions than that, so each is its own cluster."
            )
        for what, (old, new) in self.tails.items():
            yield (
                f"effective number of {what}: {effective_number(old):,.0f} before, "
                f"{effective_number(new):,.0f} after"
            )


def balance(
    dataset: Dataset,
    out: Path,
    *,
    clusters: int,
    samples: int | None = None,
    seed: int = 0,
    embedder: Embedder | None = None,
    selection: Selection | None = None,
    on_stage: Callable[[str], object] = lambda stage: None,
) -> Balanced:
    """Write an index of segments with weights that draw each cluster of actions equally often.

    Brief actions are normalised, each distinct one is embedded once, and k-means clusters them. A
    segment's weight is the probability of drawing it if first a cluster, then one of the cluster's
    distinct actions, then one of that action's segments is drawn, each uniformly. The dataset is
    read once and not changed.

    Args:
        dataset: any size: memory grows with the distinct actions (about 60 bytes each) and with the
            clusters (64 embeddings each).
        out: a Parquet file with video_uid, node_id, cluster, weight and, with `samples`, draws;
            rows in the dataset's order. Written atomically; temporary files of similar size are
            kept beside it meanwhile.
        clusters: K.
        samples: number of draws to assign; see `Draws`.
        seed: the same seed, data, settings, machine and libraries give the same file.
        embedder: by default HashedEmbedder().
        selection: the segments to use; by default all.
        on_stage: called with a description of each stage as it begins.

    Raises:
        DatasetError: a file cannot be read and the dataset has no `on_error`; two rows have the
            same uid; faiss is not installed; or `out` is one of the dataset's files.
        NothingToDoError: no selected segment has an action.
        ValueError: `clusters` or `samples` is less than 1.
        OSError: `out` cannot be written.
    """
    if clusters < 1 or (samples is not None and samples < 1):
        raise ValueError("Balancing needs at least one cluster and one sample.")
    embedder = embedder or HashedEmbedder()
    _refuse_source(dataset, out)
    generator = np.random.default_rng(seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=out.parent) as folder:
        on_stage("Reading the actions …")
        found = gather(dataset, selection or Selection(), Path(folder))
        if not found.segments:
            raise NothingToDoError(
                "No selected segment has an action: "
                f"{found.null:,} have none, {found.no_action:,} have N/A."
            )
        on_stage(f"Clustering {len(found.distinct):,} distinct actions …")
        texts, places = found.texts()
        labels = np.empty(len(places), np.int32)
        labels[places] = cluster(texts, embedder, clusters, generator)
        del texts  # otherwise the file stays mapped
        settings = IndexSettings(clusters, samples, seed, embedder.identity)
        draws = Draws(labels, found.distinct.counts, samples, generator) if samples else None
        on_stage(f"Writing {out} …")
        write_atomically(out, lambda path: _write(path, found, labels, draws, settings))
    before = found.distinct.counts / found.segments
    after = text_weights(labels)
    return Balanced(settings, found.segments, found.null, found.no_action, labels, before, after)


def _refuse_source(dataset: Dataset, out: Path) -> None:
    target = out.resolve()
    for source in dataset.sources:
        if Path(source.path).resolve() == target:
            raise DatasetError(f"{out} is a file of the dataset; write the index elsewhere.")


def _write(
    path: Path,
    found: Gathered,
    labels: NDArray[np.int32],
    draws: Draws | None,
    settings: IndexSettings,
) -> None:
    weights = text_weights(labels) / found.distinct.counts
    about = {"action100m.balance": json.dumps(asdict(settings))}
    schema = pa.schema([*_COLUMNS, _DRAWS] if draws else _COLUMNS, about)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch, texts in found.batches():
            columns = [batch.column(0), batch.column(1), labels[texts], weights[texts]]
            if draws:
                columns.append(draws.deal(texts))
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema))
