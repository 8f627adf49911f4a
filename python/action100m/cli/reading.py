"""Commands that read a dataset."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from action100m.cli.app import (
    FINDINGS,
    NOTHING,
    app,
    explained,
    print_json,
    print_lines,
)
from action100m.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from action100m.dataset.read import Dataset
    from action100m.dataset.stats import Stats
    from action100m.dataset.words import Words

_PANEL = "Read a dataset"

DatasetArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET",
        help="Parquet files, folders of them, run folders, globs, or URLs such as "
        "hf://datasets/NAME/data.",
        show_default=False,
    ),
]

MinLevel = Annotated[int, typer.Option(min=0, help="The root is level 0.")]
MaxLevel = Annotated[int | None, typer.Option(min=0, help="Default: no limit.", show_default=False)]
MinDuration = Annotated[float, typer.Option(min=0, metavar="SECONDS")]
MaxDuration = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Default: no limit.", show_default=False)
]


@contextmanager
def opened(places: list[str], *, keep_going: bool = True) -> Iterator[Dataset]:
    """Open a dataset; report files that cannot be read, and exit with 1 after the rest is done.

    With `keep_going` False, such a file raises DatasetError instead.
    """
    from action100m.dataset.read import open_dataset

    unread: list[DatasetError] = []

    def tell(error: DatasetError) -> None:
        print_lines([str(error)], sys.stderr)
        unread.append(error)

    yield open_dataset(places, tell if keep_going else None)
    if unread:
        raise typer.Exit(FINDINGS)


@app.command("validate", rich_help_panel=_PANEL)
@explained()
def validate_command(
    dataset: DatasetArgument,
) -> None:
    """Check every invariant of the published format; exit code 1 if one is violated."""
    from action100m.dataset.validate import validate

    result = validate(dataset)
    print_lines(result.lines())
    raise typer.Exit(0 if result.ok else FINDINGS)


@app.command("stats", rich_help_panel=_PANEL)
@explained()
def stats_command(
    dataset: DatasetArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also draw durations, long tail, sunburst and word cloud."
        ),
    ] = None,
) -> None:
    """Measure a dataset: counts, durations, words per field, and how its actions repeat."""
    from action100m.dataset.stats import measure

    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
    with opened(dataset) as data:
        stats = measure(data)
        if as_json:
            print_json(stats.as_json())
        else:
            print_lines(stats.lines())
        if figures is not None:
            _draw(stats, figures)


def _draw(stats: Stats, folder: Path) -> None:
    from action100m.report.charts import charts
    from action100m.report.style import save

    for name, figure in charts(stats):
        for suffix in ("png", "svg"):
            save(figure, folder / f"{name}.{suffix}")
        print_lines([str(folder / f"{name}.png")], sys.stderr)


@app.command("search", rich_help_panel=_PANEL)
@explained()
def search_command(
    query: Annotated[
        str,
        typer.Argument(
            metavar="WORDS",
            help="Words that must all occur; '\"a phrase\"' in double quotes.",
            show_default=False,
        ),
    ],
    dataset: DatasetArgument,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Search by meaning, with this sentence-transformers model: a folder or a name on "
            "the Hugging Face Hub.",
        ),
    ] = None,
    min_level: MinLevel = 0,
    max_level: MaxLevel = None,
    min_duration: MinDuration = 0.0,
    max_duration: MaxDuration = inf,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of hits, best first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per hit.")] = False,
) -> None:
    """Find segments by words in actions, summaries, captions and transcripts, or by meaning.

    Hits in actions come first, then in summaries, captions and the transcript; within each field,
    shorter segments come first. Exit code: 0 if something was found, 1 if not.
    """
    from action100m.dataset.select import Selection

    selection = Selection(min_level, max_level, min_duration, max_duration)
    words = words_of(query)
    with opened(dataset) as data:
        hits = data.search(query, model=model, selection=selection, limit=limit)
        files = _video_files(dataset, {hit.video_uid for hit in hits}) if hits else {}
        for hit in hits:
            link = hit.link(files.get(hit.video_uid))
            if as_json:
                print_json({**hit.as_json(), "link": link})
            else:
                print_lines([hit.line(words if model is None else None)])
                print_lines([f"    {link}"] if link else [])
    if not hits:
        print_lines(["Nothing was found."], sys.stderr)
        raise typer.Exit(NOTHING)


def words_of(query: str) -> Words:
    """Parse the words of a query on the command line."""
    from action100m.dataset.words import Words

    try:
        return Words(query)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _video_files(places: list[str], uids: set[str]) -> dict[str, str]:
    """Return the unchanged files of these videos by uid, as the runs among `places` know them."""
    from action100m.runs.discovery import local_videos

    return {uid: str(path) for uid, path in local_videos(places, [], uids).items()}
