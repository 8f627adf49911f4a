"""What every benchmark shares: its arguments, its table, its last line."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def parse_arguments(description: str | None, *, figure: bool = False) -> argparse.Namespace:
    """`--full` runs the long version; the default ends in under a minute."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--full", action="store_true", help="the long version")
    if figure:
        parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it, .png or .svg")
    return parser.parse_args()


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns: text to the left, numbers to the right."""
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
    """Print the last line: one JSON object. Without a rival, `rival` is the stated limit."""
    result = {"bench": bench, "ours": ours, "rival": rival, "ratio": ratio, "unit": unit, **more}
    print(json.dumps(result))
