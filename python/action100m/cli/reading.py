"""Commands that read a dataset."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import (
    FINDINGS,
    app,
    explained,
    print_lines,
)
from action100m.dataset.read import Dataset, open_dataset
from action100m.dataset.sources import DatasetError
from action100m.dataset.stats import measure
from action100m.dataset.validate import validate
from action100m.report.charts import charts
from action100m.report.figures import save

_PANEL = "Read a dataset"

DatasetArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...",
        help="Parquet files, folders of them, run folders, globs, or URLs such as "
        "hf://datasets/NAME/data.",
        show_default=False,
    ),
]


@contextmanager
def opened(places: list[str]) -> Iterator[Dataset]:
    """The dataset; what of it cannot be read is told, and the rest goes on to exit code 1."""
    unread: list[DatasetError] = []

    def tell(error: DatasetError) -> None:
        print_lines([str(error)], sys.stderr)
        unread.append(error)

    yield open_dataset(places, tell)
    if unread:
        raise typer.Exit(FINDINGS)


@app.command("validate", rich_help_panel=_PANEL)
@explained()
def validate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Parquet files, folders of them, or run folders.", show_default=False),
    ],
) -> None:
    """Check every invariant of the published format; exit code 1 if one is broken."""
    data = [path / "data" if (path / "run.toml").is_file() else path for path in paths]
    result = validate(data)
    print_lines(result.lines())
    raise typer.Exit(0 if result.ok else FINDINGS)


@app.command("stats", rich_help_panel=_PANEL)
@explained()
def stats_command(
    dataset: DatasetArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also draw durations, long tail, sunburst and word cloud there."
        ),
    ] = None,
) -> None:
    """Measure a dataset: how much, how long, how many words, and how its actions repeat."""
    with opened(dataset) as data:
        stats = measure(data)
        if as_json:
            print_lines([json.dumps(stats.as_json(), ensure_ascii=False)])
        else:
            print_lines(stats.lines())
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            for name, figure in charts(stats):
                for suffix in ("png", "svg"):
                    save(figure, figures / f"{name}.{suffix}")
                print_lines([str(figures / f"{name}.png")], sys.stderr)
