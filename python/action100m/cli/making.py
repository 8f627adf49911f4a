"""Commands that make a dataset and describe its run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import (
    NOTHING,
    ConfigOption,
    RunFolderArgument,
    app,
    check_figure,
    err,
    explained,
    fail,
    print_json,
    print_lines,
)
from action100m.errors import VideoError

_PANEL = "Make a dataset"


@app.command("run", rich_help_panel=_PANEL)
@explained(resumes=True)
def run_command(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEOS",
            help="Files, folders (searched recursively) or globs. Default: the videos of the run.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run folder.")] = Path(
        "run"
    ),
    config: ConfigOption = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A set of models: paper, qwen or small. Settings in --config override it.",
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A CSV, JSON Lines or Parquet file of titles, counts and dates, a row per video.",
        ),
    ] = None,
    keep_rounds: Annotated[
        bool,
        typer.Option(
            "--keep-rounds",
            help="Keep every round of Self-Refine for the report, of videos not yet annotated.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Videos to decode, and shards to write, at once.  [default: one per CPU]",
            show_default=False,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a trace of the time spent, for ui.perfetto.dev."),
    ] = None,
) -> None:
    """Make a dataset from VIDEOS, or resume it: segment trees, and captions by models.

    After an interruption, a crash or the repair of a file, the same command does only what is not
    done yet. `X.info.json` beside `X.mp4`, as yt-dlp writes it, gives the metadata, and
    `X.en.vtt`, `X.en.srt` or `X.en.json3` the transcript.

    Exit code: 0 all done, 1 nothing could be done or the run had to stop, 2 usage error, 3 some
    videos failed, 130 interrupted.
    """
    from action100m.config import Config, with_rounds, with_table
    from action100m.config_file import load_config
    from action100m.runs.folder import RunFolder
    from action100m.runs.run import run
    from action100m.runs.settings import read_config
    from action100m.runs.status import describe_run

    settings = load_config(config, profile) if config or profile else read_config(RunFolder(out))
    if metadata is not None:
        settings = with_table(settings or Config(), metadata)
    if keep_rounds:
        settings = with_rounds(settings or Config())
    with _traced(trace):
        result = run(videos or [], out, settings, workers=workers, console=err)
    print_lines(describe_run(out))
    raise typer.Exit(result.exit_code)


@contextlib.contextmanager
def _traced(path: Path | None) -> Iterator[None]:
    """Trace the block, even if it is interrupted, and print where its time went."""
    if path is None:
        yield
        return
    from action100m.report.trace import summary, write_chrome_trace
    from action100m.trace import tracing

    with tracing() as recorded:
        write_chrome_trace(recorded, path)  # errors of the path are told before the work
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # report what stopped the run instead
                write_chrome_trace(recorded, path)
            print_lines(summary(recorded), sys.stderr)
            raise
        write_chrome_trace(recorded, path)
        print_lines(summary(recorded), sys.stderr)


@app.command("status", rich_help_panel=_PANEL)
@explained()
def status_command(run_folder: RunFolderArgument) -> None:
    """Show the progress of a run: done, failed, stale, pending and skipped videos, and why."""
    from action100m.runs.status import describe_run

    print_lines(describe_run(run_folder))


@app.command("remove", rich_help_panel=_PANEL)
@explained()
def remove_command(
    run_folder: RunFolderArgument,
    uids: Annotated[
        list[str],
        typer.Argument(
            metavar="UID…",
            help="Names of videos; write -- before one that starts with a hyphen.",
            show_default=False,
        ),
    ],
) -> None:
    """Take videos out of a run, and out of its dataset the next time that it is written.

    Neither the files nor what was done for them is deleted: a run that is given them again takes
    them in again.
    """
    from action100m.locks import locked
    from action100m.runs.folder import RunFolder
    from action100m.runs.manifest import Manifest
    from action100m.runs.settings import read_settings

    folder = RunFolder(run_folder)
    read_settings(folder)
    with locked(folder.manifest_lock):
        Manifest(folder).remove(uids)
    command = f"`action100m export {run_folder}`"
    print_lines([f"Removed {len({*uids})}: {command} writes the dataset anew."])


class FigureFormat(str, Enum):
    """What a figure is written as."""

    png = "png"
    svg = "svg"


@app.command("report", rich_help_panel=_PANEL)
@explained()
def report_command(
    run_folder: RunFolderArgument,
    figures: Annotated[
        FigureFormat | None,
        typer.Option(help="Also draw the timeline of every segmented video."),
    ] = None,
) -> None:
    """Write RUN/report/index.html: one file with states, failures and up to 100 trees."""
    from action100m.report.of_run import draw_timelines, report_run
    from action100m.runs.folder import RunFolder

    folder = RunFolder(run_folder)
    print_lines([str(report_run(folder))])
    if figures is not None:
        print_lines(map(str, draw_timelines(folder, figures.value)))


@app.command("segment", rich_help_panel=_PANEL)
@explained()
def segment_command(
    video: Annotated[
        Path, typer.Argument(metavar="VIDEO", help="A video file.", show_default=False)
    ],
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the published fields.")
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the timeline to this .png or .svg file."),
    ] = None,
) -> None:
    """Print one video's tree of segments."""
    from action100m.config import Config
    from action100m.config_file import load_config
    from action100m.runs.export import published_row
    from action100m.segmentation.present import as_lines
    from action100m.segmentation.stage import segment_file

    check_figure(figure)
    settings = load_config(config) if config else Config()
    try:
        segmentation = segment_file(video, settings)
    except VideoError as error:
        fail(f"{video}: {error}", NOTHING)
    tree = segmentation.tree(settings.cut)
    if figure is not None:
        from action100m.report.style import save
        from action100m.report.timeline import timeline

        save(timeline(tree, segmentation.thumbnails, video.stem), figure)
    if as_json:
        row, problems = published_row(video, segmentation, tree, settings.metadata)
        print_lines((f"Sidecar: {problem}" for problem in problems), sys.stderr)
        print_json(row)
    else:
        print_lines(as_lines(tree))
