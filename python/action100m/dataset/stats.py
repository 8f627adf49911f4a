"""Statistics of a dataset: its size, durations and words, and how its actions repeat."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action100m.dataset.balance.weights import effective_number
from action100m.dataset.read import Dataset
from action100m.dataset.running_statistics import Lengths, RunningStatistics
from action100m.dataset.vocabulary import Vocabulary
from action100m.schema import HUNDREDTHS
from action100m.text import clean, clock, counted

_HEADS = (0.001, 0.01, 0.1, 0.5)  # shares of the distinct actions
_QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95, "longest": 1.0}
_LISTED = 20
_CURVE = 120  # points
_BINS = 72
_SHORTEST, _LONGEST = 0.1, 36_000.0  # seconds, the range of the histograms
_VERBS, _OBJECTS, _CLOUD = 24, 12, 400


@dataclass(frozen=True)
class Durations:
    """Durations of segments, in seconds.

    Attributes:
        edges: (B+1,) edges of the bins.
        counts: (B,) number of segments in each bin.
    """

    segments: int
    mean: float
    p05: float
    median: float
    p95: float
    longest: float
    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class WordCounts:
    """Words of one field: number of texts, words in all of them, and words per text."""

    texts: int
    words: int
    mean: float


@dataclass(frozen=True)
class Actions:
    """How brief actions repeat, once normalised.

    Attributes:
        segments: number of segments that have an action.
        distinct: number of distinct actions.
        duplicate_groups: number of actions that more than one segment has.
        in_duplicate_groups: number of segments that have one of these.
        effective_number: exp of the entropy; this many equally frequent actions are as diverse.
        head_shares: share of the segments that have the most frequent 0.1 %, 1 %… of the actions;
            only where that is at least one action.
        most_frequent: actions, with their numbers of segments.
        curve: ranks, with the number of segments of the action at that rank.
        verbs: first words, their numbers of segments, and what most often follows, with the same.
        words: words of the actions, and how often they occur.
    """

    segments: int
    distinct: int
    duplicate_groups: int
    in_duplicate_groups: int
    effective_number: float
    head_shares: dict[str, float]
    most_frequent: list[tuple[str, int]]
    curve: list[tuple[int, int]]
    verbs: list[tuple[str, int, list[tuple[str, int]]]]
    words: list[tuple[str, int]]


@dataclass(frozen=True)
class Stats:
    """Statistics of a dataset.

    Attributes:
        levels: number of segments by level, from level 0.
        deepest: the deepest levels of the shallowest and of the deepest video.
        durations, leaf_durations: of all segments, and of leaves; None if there are none.
        words: by field.
        annotated: number of segments with `gpt`.
        no_action: share of these whose brief action is null or a spelling of "N/A".
        actions: None if no segment has an action.
    """

    files: int
    videos: int
    seconds: float
    segments: int
    leaves: int
    levels: list[int]
    deepest: tuple[int, int] | None
    durations: Durations | None
    leaf_durations: Durations | None
    words: dict[str, WordCounts]
    annotated: int
    no_action: float | None
    actions: Actions | None

    def as_json(self) -> dict[str, Any]:
        """Return the statistics as plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the statistics as lines of text."""
        yield (
            f"{counted(self.videos, 'video')} in {counted(self.files, 'file')}, "
            f"{_length(self.seconds)}, {counted(self.segments, 'segment')}, "
            f"{counted(self.leaves, 'leaf')}"
        )
        for name, durations in (("segments", self.durations), ("leaves", self.leaf_durations)):
            if durations is not None:
                yield (
                    f"durations of {name}: median {durations.median:.2f} s, "
                    f"mean {durations.mean:.2f} s, 90 % from {durations.p05:.2f} to "
                    f"{durations.p95:.2f} s, longest {clock(durations.longest)}"
                )
        timed = self.durations.segments if self.durations else 0
        if timed < self.segments:
            yield f"without usable times: {counted(self.segments - timed, 'segment')}"
        if self.deepest is not None:
            shares = [f"{level}: {100 * n / self.segments:.1f} %" for level, n in self._levels()]
            yield f"deepest level of a video: {self.deepest[0]} to {self.deepest[1]}"
            yield f"segments by level: {', '.join(shares)}"
        for name, words in self.words.items():
            yield f"{name}: {counted(words.texts, 'text')}, {words.mean:.1f} words on average"
        if self.no_action is not None:
            yield (
                f"annotated: {counted(self.annotated, 'segment')}, "
                f"{100 * self.no_action:.2f} % of them without an action"
            )
        if self.actions is not None:
            yield from _action_lines(self.actions)

    def _levels(self) -> Iterator[tuple[int, int]]:
        return ((level, segments) for level, segments in enumerate(self.levels) if segments)


def _action_lines(actions: Actions) -> Iterator[str]:
    share = 100 * actions.in_duplicate_groups / actions.segments
    yield (
        f"actions: {actions.distinct:,} distinct ones; {actions.duplicate_groups:,} duplicate "
        f"groups hold {actions.in_duplicate_groups:,} of {actions.segments:,} ({share:.1f} %)"
    )
    yield f"effective number of actions: {actions.effective_number:,.0f}"
    for head, held in actions.head_shares.items():
        yield f"the most frequent {head} of the actions hold {100 * held:.1f} % of the segments"
    for action, segments in actions.most_frequent:
        yield f"{segments:>12,}  {clean(action, 100)}"


def measure(dataset: Dataset) -> Stats:
    """Measure a dataset of any size, file by file.

    A segment takes no memory; a distinct action takes 16 bytes.

    Raises:
        DatasetError: a file cannot be read, and the dataset has no `on_error`.
    """
    statistics, vocabulary = RunningStatistics(), Vocabulary()
    for _, batch in dataset.batches(["nodes"]):
        statistics.add(batch)
        vocabulary.add(batch.gpt_strings["action.brief"])
    vocabulary.finish()
    actions = _actions(vocabulary)
    leaves = statistics.leaves
    acting = actions.segments if actions else 0
    annotated = statistics.annotated
    return Stats(
        files=len(dataset.sources),
        videos=statistics.videos,
        seconds=statistics.seconds,
        segments=statistics.nodes,
        leaves=leaves.count,
        levels=[statistics.levels[n] for n in range(max(statistics.levels, default=-1) + 1)],
        deepest=statistics.deepest,
        durations=_durations(statistics.every),
        leaf_durations=_durations(leaves),
        words={name: WordCounts(n, words, words / n) for name, n, words in statistics.words()},
        annotated=annotated,
        no_action=1 - acting / annotated if annotated else None,
        actions=actions,
    )


def _durations(lengths: Lengths) -> Durations | None:
    if not lengths.count:
        return None
    edges = np.geomspace(_SHORTEST, _LONGEST, _BINS + 1)
    seconds = np.clip(lengths.hundredths / HUNDREDTHS, edges[0], edges[-1])
    counts, _ = np.histogram(seconds, edges, weights=lengths.counts)
    quantiles = {name: lengths.quantile(q) for name, q in _QUANTILES.items()}
    return Durations(
        segments=lengths.count,
        mean=lengths.mean(),
        **quantiles,
        edges=edges.tolist(),
        counts=counts.astype(int).tolist(),
    )


def _actions(vocabulary: Vocabulary) -> Actions | None:
    counts = vocabulary.actions.counts()
    if not len(counts):
        return None
    shares = counts / counts.sum()
    repeated = counts > 1
    return Actions(
        segments=int(counts.sum()),
        distinct=len(counts),
        duplicate_groups=int(repeated.sum()),
        in_duplicate_groups=int(counts[repeated].sum()),
        effective_number=effective_number(shares),
        head_shares={
            f"{100 * head:g} %": float(shares[: round(head * len(shares))].sum())
            for head in _HEADS
            if head * len(shares) >= 1
        },
        most_frequent=vocabulary.actions.most_frequent(_LISTED),
        curve=_curve(counts),
        verbs=_verbs(vocabulary),
        words=vocabulary.words.most_frequent(_CLOUD),
    )


def _length(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _curve(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    ranks = sorted(set(np.geomspace(1, len(counts), _CURVE).round().astype(int).tolist()))
    return [(rank, int(counts[rank - 1])) for rank in ranks]


def _verbs(vocabulary: Vocabulary) -> list[tuple[str, int, list[tuple[str, int]]]]:
    objects: dict[str, list[tuple[str, int]]] = {}
    for action, segments in vocabulary.actions.most_frequent():
        verb, _, rest = action.partition(" ")
        if rest and len(objects.setdefault(verb, [])) < _OBJECTS:
            objects[verb].append((rest, segments))
    verbs = vocabulary.verbs.most_frequent(_VERBS)
    return [(verb, segments, objects.get(verb, [])) for verb, segments in verbs]
