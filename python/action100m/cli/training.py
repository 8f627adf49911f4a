"""Commands that make of a dataset what training takes."""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import FINDINGS, app, explained, print_lines
from action100m.cli.reading import DatasetArgument
from action100m.dataset.balance import CLUSTERS, balance
from action100m.dataset.embeddings import SentenceEmbedder
from action100m.dataset.read import open_dataset
from action100m.dataset.select import Selection
from action100m.dataset.sources import DatasetError
from action100m.report.before_after import before_after
from action100m.report.figures import save

_PANEL = "Pass a dataset on"


@app.command("balance", rich_help_panel=_PANEL)
@explained()
def balance_command(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.parquet", show_default=False)],
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Also deal so many draws.", show_default=False),
    ] = None,
    clusters: Annotated[int, typer.Option(min=1)] = CLUSTERS,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Cluster by meaning, with this sentence-transformers model: a folder or a name "
            "on the Hugging Face Hub. Without one, by spelling.",
        ),
    ] = None,
    min_level: Annotated[int, typer.Option(min=0, help="The root is level 0.")] = 0,
    max_level: Annotated[int | None, typer.Option(min=0, show_default=False)] = None,
    min_duration: Annotated[float, typer.Option(min=0, metavar="SECONDS")] = 0.0,
    max_duration: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw before and after there, as .png or .svg."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out files that cannot be read; exit code 1.")
    ] = False,
) -> None:
    """Weigh segments so that alike actions come up alike: an index with a weight for each one.

    Distinct actions are clustered; a segment's weight is the probability of drawing it where
    clusters, the actions of a cluster and the segments of an action are each drawn uniformly.
    """
    unread: list[DatasetError] = []

    def leave_out(error: DatasetError) -> None:
        print_lines([str(error)], sys.stderr)
        unread.append(error)

    result = balance(
        open_dataset(dataset, leave_out if keep_going else None),
        out,
        clusters=clusters,
        samples=samples,
        seed=seed,
        embedder=SentenceEmbedder(model) if model else None,
        selection=Selection(
            min_level=min_level,
            max_level=inf if max_level is None else max_level,
            min_duration=min_duration,
            max_duration=inf if max_duration is None else max_duration,
        ),
        on_stage=lambda stage: print_lines([stage], sys.stderr),
    )
    print_lines(result.lines())
    if figure is not None:
        save(before_after(result.tails), figure)
    raise typer.Exit(FINDINGS if unread else 0)
