"""Captioned trees with the published statistics, for the benchmarks of stage 3."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from action100m.aggregation.prompts import Captioned
from action100m.tree import cut, ward

_RATE = 7.5  # sampled frames per second
_SCENE = 1.7  # mean seconds of a leaf
_SYLLABLES = [first + last for first in "bcdfghklmnprstvw" for last in ("a", "er", "ing", "o", "u")]


class Writer:
    """Writes random words, a few of them frequent and most of them rare."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self._words = [
            "".join(self.generator.choice(_SYLLABLES, size)) for size in [1] * 200 + [2] * 3000
        ]

    def write(self, mean: float) -> str:
        """Return a text of about `mean` words."""
        count = max(1, int(self.generator.poisson(mean)))
        places = self.generator.zipf(1.3, count) % len(self._words)
        return " ".join(self._words[place] for place in places) + "."

    def annotation(self) -> str:
        """Return an answer with the published mean lengths."""
        summary = {"brief": self.write(19), "detailed": self.write(93)}
        action = {"brief": self.write(3.3), "detailed": self.write(27), "actor": self.write(6)}
        return json.dumps({"summary": summary, "action": action})


def draw_videos(count: int, seed: int = 0) -> Iterator[Captioned]:
    """Yield videos of two to ten minutes, with Ward trees over changing scenes."""
    writer = Writer(seed)
    generator = writer.generator
    for _ in range(count):
        frames = int(generator.uniform(120, 600) * _RATE)
        changes = generator.random(frames) < 1 / (_SCENE * _RATE)
        steps = np.where(changes[:, None], generator.standard_normal((frames, 16)), 0)
        rows = steps.cumsum(0) + 0.05 * generator.standard_normal((frames, 16))
        tree = cut(ward(rows), np.arange(frames + 1) / _RATE)
        yield Captioned(
            tree,
            [writer.write(70) for _ in range(len(tree))],
            [writer.write(6.5) for _ in range(len(tree))],
            [writer.write(165) if leaf else None for leaf in tree.is_leaf],
            writer.write(9),
            writer.write(80),
            [(4.0 * k, writer.write(9)) for k in range(int(tree.end[0] / 4))],
        )
