"""Measure large datasets: export to FiftyOne, `stats`, and tree operations.

Shards have the published sizes and text lengths. The commands run in separate processes, and their
startup is included; memory is the peak resident set size. Limits: 30 s and 1 GiB to export 1,144
videos of 400 segments; 5 s and 1 GiB for `stats` over a million segments, with the same CPU time
per segment as over a third of them. The tree operations are compared with the same operations on a
Python object per segment. `--full` also measures `stats` on four million segments.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import action100m
from action100m.dataset.columns import TREE_FIELDS
from action100m.tree import Tree
from harness import finish, median_seconds, parse_arguments, print_table
from published_sizes import draw_dataset

VIDEOS, SEGMENTS = 1_144, 400
EXPORT_SECONDS, STATS_SECONDS, MEBIBYTES = 30.0, 5.0, 1024.0
MILLION = 1_000_000


@dataclass
class Cost:
    """The cost of a command: wall-clock seconds, seconds of CPU time, and peak MiB."""

    seconds: float
    cpu: float
    mebibytes: float


# A process inherits the peak resident set of its parent, so commands are started by a small parent.
_MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""


def cost(*words: str | Path) -> Cost:
    """Run an `action100m` command and return its cost."""
    call = [sys.executable, "-m", "action100m", *map(str, words)]
    measured = subprocess.check_output([sys.executable, "-c", _MEASURE, *call])
    code, *numbers = json.loads(measured)
    if code:
        raise SystemExit(f"{' '.join(call)} ended with {code}")
    return Cost(*numbers)


def least(costs: list[Cost]) -> Cost:
    """Return the least times of several runs, and the most memory."""
    return Cost(
        min(one.seconds for one in costs),
        min(one.cpu for one in costs),
        max(one.mebibytes for one in costs),
    )


@dataclass(eq=False)
class Segment:
    """A segment of the rival: an object with a list of its children."""

    row: int
    start: float
    end: float
    level: int
    children: list[Segment] = field(default_factory=list)

    def inside(self) -> list[int]:
        """Return the rows below this segment, depth first."""
        return [row for child in self.children for row in (child.row, *child.inside())]

    def level_cut(self, level: int) -> list[int]:
        """Return the rows of the segments that tile this one if the tree is cut at a level."""
        if self.level == level or not self.children:
            return [self.row]
        return [row for child in self.children for row in child.level_cut(level)]

    def at(self, moment: float) -> int:
        """Return the row of the leaf that contains a time."""
        if not self.children:
            return self.row
        first, second = self.children
        return (first if moment < second.start else second).at(moment)


def as_objects(tree: Tree) -> Segment:
    """Return the same tree as one object per segment."""
    columns = (tree.start.tolist(), tree.end.tolist(), tree.level.tolist())
    segments = [Segment(row, *values) for row, values in enumerate(zip(*columns, strict=True))]
    for segment, parent in zip(segments[1:], tree.parent.tolist()[1:], strict=True):
        segments[parent].children.append(segment)
    return segments[0]


def operations(trees: list[Tree]) -> list[list[object]]:
    """Return rows with the nodes per second of each operation, ours and the rival's."""
    built = list(map(as_objects, trees))
    moments = [np.linspace(0, tree.end[0], 100, endpoint=False) for tree in trees]
    lists = [times.tolist() for times in moments]
    pairs: dict[str, tuple[Callable[[], list[object]], Callable[[], list[object]]]] = {
        "leaves": (
            lambda: [t.leaves for t in trees],
            lambda: [root.level_cut(10**6) for root in built],
        ),
        "cut at level 4": (
            lambda: [t.at_level(4) for t in trees],
            lambda: [root.level_cut(4) for root in built],
        ),
        "all inside": (
            lambda: [t.descendants(0) for t in trees],
            lambda: [root.inside() for root in built],
        ),
        "the leaf at each of 100 moments": (
            lambda: [t.at(times) for t, times in zip(trees, moments, strict=True)],
            lambda: [list(map(root.at, times)) for root, times in zip(built, lists, strict=True)],
        ),
    }
    nodes = sum(map(len, trees))
    rows: list[list[object]] = []
    for name, (ours, rivals) in pairs.items():
        assert all(map(np.array_equal, ours(), rivals())), name
        speeds = [nodes / median_seconds(call, 5) for call in (ours, rivals)]
        rows.append([name, *speeds, speeds[0] / speeds[1]])
    return rows


def measure_stats(data: Path) -> dict[int, Cost]:
    """Return the cost of `stats` over the first third of the shards and over all, by segments."""
    shards = sorted(data.iterdir())
    return {
        _count(files): least([cost("stats", *files, "--json") for _ in range(2)])
        for files in (shards[: len(shards) // 3], shards)
    }


def _count(shards: list[Path]) -> int:
    batches = action100m.open(shards).batches(["nodes.level"])
    return sum(len(batch.row) for _, batch in batches)


def main() -> None:
    """Measure, and print the tables and the result."""
    arguments = parse_arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        data, many, out = (Path(folder) / name for name in ("data", "many", "fiftyone"))
        with ProcessPoolExecutor(2) as pool:
            drawn = pool.submit(draw_dataset, data, VIDEOS * SEGMENTS, SEGMENTS)
            pool.submit(draw_dataset, many, MILLION).result()
            drawn.result()
        export = cost("export", data, "--format", "fiftyone", "--no-media", "--out", out)
        trees = [video.tree for video in action100m.open(data).videos(TREE_FIELDS)]
        stats = measure_stats(many)
        (few, less), (million, all_of_it) = stats.items()
        if arguments.full:
            draw_dataset(Path(folder) / "more", 4 * MILLION)
            stats |= measure_stats(Path(folder) / "more")
    segments = sum(map(len, trees))
    rows = [[f"export of {len(trees):,} videos to FiftyOne", segments, *vars(export).values()]]
    rows += [["stats", size, *vars(one).values()] for size, one in stats.items()]
    print_table(("command", "segments", "seconds", "CPU seconds", "MiB"), rows)
    walked = operations(trees)
    print_table(("of every tree", "segments/s", "objects: segments/s", "ratio"), walked)
    finish(
        "dataset",
        ours=export.seconds,
        rival=EXPORT_SECONDS,
        ratio=export.seconds / EXPORT_SECONDS,
        unit="seconds of an export to FiftyOne",
        mebibytes=export.mebibytes,
        stats_seconds=all_of_it.seconds,
        stats_seconds_limit=STATS_SECONDS,
        stats_mebibytes=all_of_it.mebibytes,
        stats_growth=(all_of_it.cpu / million) / (less.cpu / few),
        mebibytes_limit=MEBIBYTES,
        nodes_per_second={str(name): speed for name, speed, *_ in walked},
    )


if __name__ == "__main__":
    main()
