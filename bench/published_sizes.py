"""Shards with the published sizes and text lengths, drawn fast by making many texts at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from action100m.dataset.write import node_rows, video_row, write_shards
from action100m.schema import GPT
from action100m.tree import Tree, cut, ward

_TREES, _VIDEOS_A_SHARD = 24, 256
_VERBS, _NOUNS = 311, 6300
_OFTEN = 40_000  # ranks of actions that have three words; rarer ones have four


def draw_dataset(folder: Path, nodes: int, per_video: int = 720) -> int:
    """Write shards with about `nodes` nodes into a new folder; return the number of nodes."""
    trees = _draw_trees(_TREES, per_video)
    cycle = np.cumsum([len(tree) for tree in trees])
    whole, rest = divmod(nodes, int(cycle[-1]))
    more = int(np.searchsorted(cycle, rest)) + 1
    videos = whole * _TREES + more
    writer = Writer(0)
    rows = (_row(number, trees[number % _TREES], writer) for number in range(videos))
    write_shards(rows, folder, videos, {}, _VIDEOS_A_SHARD)
    return whole * int(cycle[-1]) + int(cycle[more - 1])


class Writer:
    """Writes texts as pieces of one long stream of random words."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        letters = np.array(list("etaoinshrdlu"))
        lengths = np.repeat(np.arange(2, 9), _NOUNS // 7)
        self._words = np.array(["".join(self._generator.choice(letters, n)) for n in lengths])
        stream = self._generator.choice(self._words, 2_000_000).tolist()
        self._text = " ".join(stream).encode()
        self._starts = np.cumsum([0, *(len(word) + 1 for word in stream)])

    def texts(self, mean: float, given: NDArray[np.bool_]) -> pa.StringArray:
        """Return (n,) texts of about `mean` words, null where not `given`."""
        words = np.maximum(1, self._generator.poisson(mean, len(given))) * given
        ends = np.concatenate([[0], np.cumsum(words)])
        first = int(self._generator.integers(len(self._starts) - ends[-1]))
        at = self._starts[first + ends].astype(np.int32)
        characters = pa.py_buffer(self._text[at[0] : at[-1]])
        there = pa.py_buffer(np.packbits(given, bitorder="little"))
        return pa.StringArray.from_buffers(len(given), pa.py_buffer(at - at[0]), characters, there)

    def actions(self, given: NDArray[np.bool_]) -> pa.StringArray:
        """Return (n,) brief actions, a few frequent, and 3 % "N/A"; null where not `given`."""
        rank = np.minimum(self._generator.zipf(1.15, len(given)), 2**40)
        names = np.char.add(self._words[rank % _VERBS], " the ")
        names = np.char.add(names, self._words[rank // 7 % _NOUNS])
        longer = np.char.add(np.char.add(names, " "), self._words[rank // _OFTEN % _NOUNS])
        names = np.where(rank < _OFTEN, names, longer)
        names[self._generator.random(len(given)) < 0.03] = "N/A"
        return pa.array(names.tolist(), pa.string(), mask=~given)


def _draw_trees(count: int, nodes: int) -> list[Tree]:
    """Draw trees of about `nodes` nodes over random walks; with 720 they last 2 to 8 minutes."""
    generator = np.random.default_rng(7)
    trees = []
    for _ in range(count):
        frames = int(nodes * generator.uniform(1.25, 5))
        walk = np.cumsum(generator.normal(size=(frames, 4)), axis=0)
        trees.append(cut(ward(walk), np.arange(frames + 1) * 4 / 30))
    return trees


def _row(number: int, tree: Tree, writer: Writer) -> pa.RecordBatch:
    every = np.ones(len(tree), bool)
    annotated = ~tree.is_leaf & (np.round(tree.duration, 6) >= 4.0)
    summary = {"brief": writer.texts(19, annotated), "detailed": writer.texts(93, annotated)}
    action = {
        "brief": writer.actions(annotated),
        "detailed": writer.texts(27, annotated),
        "actor": writer.texts(6, annotated),
    }
    parts = {"summary": summary, "action": action}
    structs = [
        pa.StructArray.from_arrays(list(strings.values()), fields=list(GPT.field(part).type))
        for part, strings in parts.items()
    ]
    gpt = pa.StructArray.from_arrays(structs, fields=list(GPT), mask=pa.array(~annotated))
    uid = f"video{number:06d}"
    texts = {
        "plm_action": writer.texts(6.5, every),
        "plm_caption": writer.texts(70, every),
        "llama3_caption": writer.texts(165, tree.is_leaf),
        "gpt": gpt,
    }
    metadata = {"title": f"Video {number}", "duration": int(tree.end[0])}
    return video_row(uid, metadata, node_rows(uid, tree, texts))
