"""Commands that prepare a dataset for training."""

from __future__ import annotations

import sys
from enum import Enum
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import (
    app,
    check_figure,
    exit_unless_complete,
    explained,
    print_lines,
    progress_bar,
)
from action100m.cli.reading import (
    DatasetArgument,
    MaxDuration,
    MaxLevel,
    MinDuration,
    MinLevel,
    opened,
    words_of,
)
from action100m.errors import UsageError
from action100m.files import require_utf8

_PANEL = "Export a dataset"


class ClipFormat(str, Enum):
    """The format of clips."""

    files = "files"
    webdataset = "webdataset"


@app.command("balance", rich_help_panel=_PANEL)
@explained()
def balance_command(
    dataset: DatasetArgument,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE.parquet", help="The index.", show_default=False),
    ],
    samples: Annotated[
        int | None,
        # Its product with the number of segments is a 64-bit integer.
        typer.Option(
            min=1, max=10**10, help="Also write this number of draws.", show_default=False
        ),
    ] = None,
    clusters: Annotated[int, typer.Option(min=1)] = 10_000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Cluster by meaning, with this sentence-transformers model: a folder or a name "
            "on the Hugging Face Hub. Without a model, cluster by spelling.",
        ),
    ] = None,
    min_level: MinLevel = 0,
    max_level: MaxLevel = None,
    min_duration: MinDuration = 0.0,
    max_duration: MaxDuration = inf,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Plot before and after to this .png or .svg file."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Skip unreadable files, and exit with 1.")
    ] = False,
) -> None:
    """Write an index of sampling weights that balance clusters of similar actions.

    Distinct actions are clustered; a segment's weight is the probability of drawing it if a
    cluster, then an action of it, then a segment with that action are each drawn uniformly.
    """
    from action100m.dataset.balance import balance
    from action100m.dataset.embeddings import SentenceEmbedder
    from action100m.dataset.select import Selection

    require_utf8(out)
    if out.suffix.lower() != ".parquet":
        raise UsageError(f"--out takes a .parquet file, not {out}.")
    check_figure(figure)
    with opened(dataset, keep_going=keep_going) as data:
        result = balance(
            data,
            out,
            clusters=clusters,
            samples=samples,
            seed=seed,
            embedder=SentenceEmbedder(model) if model else None,
            selection=Selection(min_level, max_level, min_duration, max_duration),
            on_stage=lambda stage: print_lines([stage], sys.stderr),
        )
        print_lines(result.lines())
        if figure is not None:
            from action100m.report.before_after import before_after
            from action100m.report.style import save

            save(before_after(result.tails), figure)


@app.command("clips", rich_help_panel=_PANEL)
@explained(resumes=True)
def clips_command(
    dataset: DatasetArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="The folder for the clips.", show_default=False
        ),
    ],
    videos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="Where the videos are, if no run folder knows them; repeatable.",
        ),
    ] = None,
    form: Annotated[
        ClipFormat,
        typer.Option(
            "--format", help="MP4 files, or tar shards that the webdataset library reads."
        ),
    ] = ClipFormat.files,
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Copy the encoded frames without decoding, from the last key frame before a "
            "segment. Fast, but clips may be longer than their segments.",
        ),
    ] = False,
    words: Annotated[
        str | None,
        typer.Option(metavar="QUERY", help="Only segments that `search` finds by these words."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet", help="Only segments that this index of `balance` draws."
        ),
    ] = None,
    min_level: MinLevel = 0,
    max_level: MaxLevel = None,
    min_duration: MinDuration = 0.0,
    max_duration: MaxDuration = inf,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Videos to cut at once.  [default: one per CPU]", show_default=False
        ),
    ] = None,
) -> None:
    """Cut segments out of their videos: silent MP4 clips, and clips.parquet, which lists them.

    Each video is read once, even if its segments are nested. Clips are exact to the frame, H.264,
    upright, with square pixels, unless --copy is given. The same command resumes after an
    interruption.

    Exit code: 0 all segments, 1 none, or part of DATASET cannot be read, 2 usage error, 3 some were
    left out and listed with the reason.
    """
    from action100m.dataset.balance.index import Index
    from action100m.dataset.clips.choice import Choice
    from action100m.dataset.clips.write import cut_clips
    from action100m.dataset.select import Selection
    from action100m.processes import available_cpus
    from action100m.runs.discovery import local_videos

    require_utf8(out)
    choice = Choice(
        Selection(min_level, max_level, min_duration, max_duration),
        None if words is None else words_of(words),
        None if index is None else Index.read(index),
    )
    with opened(dataset) as data:
        files = local_videos(dataset, videos or [])
        if not files:
            raise UsageError("No run folder knows the videos: pass them as --videos FOLDER.")
        with progress_bar("clips", len(data)) as advance:
            written = cut_clips(
                data,
                out,
                choice,
                files,
                copy=copy,
                packed=form is ClipFormat.webdataset,
                workers=workers or available_cpus(),
                on_video=advance,
            )
        print_lines((f"Left out: {line}" for line in written.left_out), sys.stderr)
        print_lines([f"{out}: {written.clips} clips, {len(written.left_out)} left out"])
        if not (written.clips or written.left_out):
            print_lines(["No segment meets all conditions."], sys.stderr)
        exit_unless_complete(written.clips, written.left_out)
