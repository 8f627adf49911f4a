"""Shared parts of the benchmarks: arguments, the table and the last line."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def parse_arguments(description: str | None, *, figure: bool = False) -> argparse.Namespace:
    """Parse the arguments. `--full` runs the long version; the default takes under a minute."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="run the long version")
    if figure:
        parser.add_argument("--figure", type=Path, metavar="FILE", help="plot to .png or .svg")
    return parser.parse_args()


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median wall-clock seconds of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: text is aligned left, numbers right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    print("  ".join(title.ljust(width) for title, width in zip(header, widths, strict=True)))
    for row, values in zip(cells, rows, strict=True):
        print(
            "  ".join(
                text.ljust(width) if isinstance(value, str) else text.rjust(width)
                for text, value, width in zip(row, values, widths, strict=True)
            )
        )


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finish(
    bench: str, *, ours: float, rival: float, ratio: float, unit: str, **more: object
) -> None:
    """Print the result as one JSON object on the last line.

    Args:
        bench: name of the benchmark.
        ours, rival: the measurements; without a rival, `rival` is the limit.
        ratio: the ratio that the benchmark is about.
        unit: unit of `ours` and `rival`.
        more: further values.
    """
    result = {"bench": bench, "ours": ours, "rival": rival, "ratio": ratio, "unit": unit, **more}
    print(json.dumps(result))
