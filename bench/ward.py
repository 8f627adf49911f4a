"""Measure the time and memory of exact contiguous Ward against scikit-learn, on one thread.

Both must give the same tree. The input is an hour of video: 27,000 frames, 1,408 dimensions,
float32. `--full` adds ten hours, measured in turns with one hour, and prints how the time grows.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags_array
from sklearn.cluster import AgglomerativeClustering

import action100m
from harness import finish, median_seconds, parse_arguments, print_table

Frames = NDArray[np.float32]
FRAMES, DIMENSIONS, REPEATS = 27_000, 1_408, 5


def pieces(n: int) -> Frames:
    """Return piecewise constant rows with noise; a piece lasts 100 frames on average."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, DIMENSIONS), dtype=np.float32)
    X *= 0.3
    starts = np.flatnonzero(rng.random(n) < 0.01)
    for first, last in itertools.pairwise([0, *starts, n]):
        X[first:last] += rng.standard_normal(DIMENSIONS, dtype=np.float32)
    return X


def walk(n: int) -> Frames:
    """Return a random walk."""
    X = np.random.default_rng(2).standard_normal((n, DIMENSIONS), dtype=np.float32)
    for i in range(1, n):
        X[i] += X[i - 1]
    return X


DATA: dict[str, Callable[[int], Frames]] = {"pieces": pieces, "walk": walk}


def sklearn_ward(X: Frames) -> action100m.Dendrogram:
    """Cluster with the rival, scikit-learn."""
    chain = diags_array([np.ones(len(X) - 1)] * 2, offsets=[-1, 1]).tocsr()
    model = AgglomerativeClustering(
        linkage="ward", connectivity=chain, n_clusters=None, distance_threshold=0
    ).fit(X)
    return action100m.Dendrogram(model.children_, model.distances_)


WARDS: dict[str, Callable[[Frames], action100m.Dendrogram]] = {
    "ours": action100m.ward,
    "scikit-learn": sklearn_ward,
}


def check_equal(X: Frames) -> None:
    """Stop the benchmark if the two trees differ."""
    ours, rival = action100m.ward(X), sklearn_ward(X)
    if not (ours.children == rival.children).all():
        raise SystemExit("The merges differ from scikit-learn's.")
    np.testing.assert_allclose(ours.heights, rival.heights, rtol=1e-12)


def _peak_bytes() -> int:
    # Not getrusage: its peak of a child starts with the parent's peak.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def _memory_in_child(name: str, data: str, n: int) -> float:
    X = DATA[data](n)
    before = _peak_bytes()
    WARDS[name](X)
    return (_peak_bytes() - before) / X.nbytes


def memory(name: str, data: str, n: int) -> float:
    """Return the peak memory beyond the input, in units of the input, of a separate process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory_in_child, (name, data, n))


def in_turns(*calls: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call, measured in turns under the same machine load."""
    turns = [[median_seconds(call, 1) for call in calls] for _ in range(REPEATS)]
    return [statistics.median(turn) for turn in zip(*turns, strict=True)]


def main() -> None:
    """Measure, and print the table and the result."""
    full = parse_arguments(__doc__).full
    rows: list[list[object]] = []
    results, growths = [], []
    for data, draw in DATA.items():
        X = draw(FRAMES)
        check_equal(X)
        ours, rival = in_turns(*(partial(ward, X) for ward in WARDS.values()))
        inputs = [memory(name, data, FRAMES) for name in WARDS]
        rows.append([data, FRAMES, ours, rival, rival / ours, *inputs])
        results.append((rival / ours, ours, rival, inputs[0]))
        if full:
            longer = draw(10 * FRAMES)
            short, long = in_turns(partial(action100m.ward, X), partial(action100m.ward, longer))
            del longer
            rows.append([data, 10 * FRAMES, long, "", "", memory("ours", data, 10 * FRAMES), ""])
            growths.append(long / short)
    print_table(
        ("data", "frames", "ours, s", "scikit-learn, s", "ratio", "memory / input", "scikit-learn"),
        rows,
    )
    ratio, ours, rival, _ = min(results)
    more = {"memory": max(inputs for *_, inputs in results)}
    if full:
        more["growth"] = max(growths)
    finish("ward", ours=ours, rival=rival, ratio=ratio, unit="s", **more)


if __name__ == "__main__":
    main()
