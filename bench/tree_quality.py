"""Measure how well the built-in encoder's trees find cuts, and plain Ward changes of action.

Needs the clips in ../shared (or in the folder that ACTION100M_SHARED names).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, SceneDetector, detect

import action100m
from action100m.segmentation.encoders.descriptor import DescriptorEncoder
from action100m.video import DecodeLimits, Decoder, FrameBatch, FrameSpec
from concatenations import concatenate, decode_clips
from harness import finish, parse_arguments, print_table

SHARED = Path(
    os.environ.get("ACTION100M_SHARED", Path(__file__).resolve().parents[1].parent / "shared")
)
TOLERANCE = 0.3  # seconds
SEED = 20260
RIVALS: dict[str, Callable[[], SceneDetector]] = {
    "PySceneDetect ContentDetector": ContentDetector,
    "PySceneDetect AdaptiveDetector": AdaptiveDetector,
}
OURS = "action100m descriptor + Ward"


@dataclass(frozen=True)
class Case:
    """A video, its true coarse cuts and all its true cuts, in seconds."""

    path: Path
    coarse_cuts: list[float]
    cuts: list[float]


def matched(boundaries: Sequence[float], cuts: Sequence[float], tolerance: float) -> int:
    """Return the number of pairs of a one-to-one matching; both inputs must increase."""
    pairs = i = j = 0
    while i < len(boundaries) and j < len(cuts):
        if abs(boundaries[i] - cuts[j]) <= tolerance:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif boundaries[i] < cuts[j]:
            i += 1
        else:
            j += 1
    return pairs


def f1(boundaries: Sequence[float], cuts: Sequence[float], tolerance: float) -> float:
    return 2 * matched(boundaries, cuts, tolerance) / max(1, len(boundaries) + len(cuts))


def uniform(k: int, end: float) -> list[float]:
    """Return k cuts of [0, end] into equal parts."""
    return np.linspace(0, end, k + 2)[1:-1].tolist()


def embed(decoder: Decoder, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the (n, d) embeddings and (n+1,) edges of a video's sampled frames."""
    encoder = DescriptorEncoder()
    times: list[NDArray[np.float64]] = []
    stream = decoder.open(path, FrameSpec(stride=4, side=encoder.short_side))

    def batches() -> Iterator[FrameBatch]:
        for batch in stream:
            times.append(batch.times)
            yield batch

    rows = np.concatenate(list(encoder.encode(batches())))
    starts = np.concatenate(times)
    middles = (starts[1:] + starts[:-1]) / 2
    return rows, np.concatenate([[0.0], middles, [stream.report.end]])


def score_tree(decoder: Decoder, case: Case) -> tuple[float, int, int]:
    """Return F1 for the true number of cuts, the true cuts found in the tree, and those by chance.

    A cut is found if any boundary in the tree is near it. Chance: the tree's number of boundaries,
    spread uniformly.
    """
    rows, edges = embed(decoder, case.path)
    dendrogram = action100m.ward(rows)
    last = edges[dendrogram.boundaries(len(case.coarse_cuts))].tolist()
    anywhere = np.unique(action100m.cut(dendrogram, edges).start[1:]).tolist()
    chance = uniform(len(anywhere), edges[-1])
    return f1(last, case.coarse_cuts, TOLERANCE), near(anywhere, case), near(chance, case)


def near(boundaries: Sequence[float], case: Case) -> int:
    """Return how many of all true cuts have a boundary within the tolerance."""
    return sum(min(abs(b - cut) for b in boundaries) <= TOLERANCE for cut in case.cuts)


def score_rival(detector: Callable[[], SceneDetector], case: Case) -> float:
    cuts = [start.seconds for start, _ in detect(str(case.path), detector())[1:]]
    return f1(cuts, case.coarse_cuts, TOLERANCE)


def shared_cases(videos: Path) -> list[Case]:
    cases = []
    for path in sorted(videos.glob("concat_*.mp4")):
        truth = json.loads(path.with_suffix(".truth.json").read_text())
        cases.append(Case(path, truth["coarse_cuts"], truth["cuts"]))
    return cases


def made_cases(videos: Path, folder: Path, count: int) -> list[Case]:
    clips = decode_clips(videos)
    cases = []
    for number in range(count):
        path = folder / f"made_{number:03}.mp4"
        cuts = concatenate(clips, path, SEED + number)
        cases.append(Case(path, cuts, cuts))
    return cases


def gtea_f1(features: Path) -> tuple[float, float]:
    """Return the mean F1 of plain Ward on the unchanged features, and of uniform cuts.

    The tolerance is 1 % of the length, at least 2 frames; k is the true number of boundaries.
    """
    ours, chance = [], []
    with np.load(features) as data:
        for number in range(sum(name.startswith("x") for name in data)):
            rows, labels = data[f"x{number}"], data[f"y{number}"]
            cuts = (np.flatnonzero(np.diff(labels)) + 1).tolist()
            tolerance = max(2.0, 0.01 * len(labels))
            boundaries = action100m.ward(rows).boundaries(len(cuts)).tolist()
            ours.append(f1(boundaries, cuts, tolerance))
            frames = np.round(uniform(len(cuts), len(labels))).tolist()
            chance.append(f1(frames, cuts, tolerance))
    return statistics.mean(ours), statistics.mean(chance)


def main() -> None:
    arguments = parse_arguments(__doc__)
    if not SHARED.is_dir():
        sys.exit(f"{SHARED} does not exist; set ACTION100M_SHARED to the folder of shared clips.")
    shared = shared_cases(SHARED / "videos")
    with tempfile.TemporaryDirectory() as folder:
        made = made_cases(SHARED / "videos", Path(folder), 100 if arguments.full else 20)
        cases = shared + made
        with Decoder(DecodeLimits()) as decoder:
            trees = [score_tree(decoder, case) for case in cases]
        scores = {OURS: [tree[0] for tree in trees]}
        for name, detector in RIVALS.items():
            scores[name] = [score_rival(detector, case) for case in cases]

    means = {name: statistics.mean(values) for name, values in scores.items()}
    print_table(
        ["F1 of coarse cuts, 0.3 s", f"{len(shared)} shared", f"{len(made)} made", "all"],
        [
            [
                name,
                statistics.mean(values[: len(shared)]),
                statistics.mean(values[len(shared) :]),
                means[name],
            ]
            for name, values in scores.items()
        ],
    )
    cuts = sum(len(case.cuts) for case in cases)
    found, by_chance = (sum(tree[i] for tree in trees) / cuts for i in (1, 2))
    gtea, gtea_uniform = gtea_f1(SHARED / "features" / "gtea_svm_split1.npz")
    print()
    print_table(
        ["", "Ward", "uniform"],
        [
            [f"share of {cuts} cuts that are in the tree", found, by_chance],
            ["F1 of action changes, GTEA features", gtea, gtea_uniform],
        ],
    )
    ours, rival = means[OURS], max(means[name] for name in RIVALS)
    finish(
        "tree_quality",
        ours=ours,
        rival=rival,
        ratio=ours / rival,
        unit="mean F1 at 0.3 s",
        f1_shared=statistics.mean(scores[OURS][: len(shared)]),
        f1_made=statistics.mean(scores[OURS][len(shared) :]),
        cuts_in_tree=found,
        cuts_in_tree_by_chance=by_chance,
        gtea_f1=gtea,
        gtea_f1_uniform=gtea_uniform,
    )


if __name__ == "__main__":
    main()
