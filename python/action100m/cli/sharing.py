"""Commands that export, import and publish a dataset."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from action100m.cli.app import (
    NOTHING,
    SOME_LEFT_OUT,
    app,
    exit_unless_complete,
    explained,
    print_lines,
    progress_bar,
)
from action100m.cli.reading import opened
from action100m.errors import UsageError
from action100m.files import is_run_folder
from action100m.text import counted

if TYPE_CHECKING:
    from action100m.dataset.fiftyone.write import Export

_PANEL = "Export a dataset"
_SECONDS = 90.0  # of each video, as in the published preview
_DAY = 86_400.0

FolderArgument = Annotated[
    Path,
    typer.Argument(metavar="FOLDER", help="An export to FiftyOne.", show_default=False),
]


class DatasetFormat(str, Enum):
    """The format of an export."""

    parquet = "parquet"
    fiftyone = "fiftyone"


@app.command("export", rich_help_panel=_PANEL)
@explained(resumes=True)
def export_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run folder; for FiftyOne also Parquet files, folders, a glob or a URL.",
            show_default=False,
        ),
    ],
    form: Annotated[
        DatasetFormat,
        typer.Option("--format", help="The published Parquet, or a folder for FiftyOne."),
    ] = DatasetFormat.parquet,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="For FiftyOne.  [default: RUN/fiftyone]"
        ),
    ] = None,
    videos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="For FiftyOne: where the videos are, if the run does not know them; repeatable.",
        ),
    ] = None,
    no_media: Annotated[
        bool, typer.Option("--no-media", help="For FiftyOne: write samples without video files.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            help=f"For FiftyOne: seconds per video.  [default: {_SECONDS:g}]", min=0.1, max=_DAY
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="For FiftyOne: video address, e.g. 'https://www.youtube.com/watch?v={uid}'.",
        ),
    ] = None,
) -> None:
    """Write the Parquet shards of RUN again from its done videos, or a dataset for FiftyOne.

    For FiftyOne: video clips at 480p with labelled segments, to view with `action100m app` or to
    upload with `action100m push`. The same command resumes after an interruption.

    Exit code: 0 all videos, 1 none, 2 usage error, 3 some were left out; `status` says why, and
    for FiftyOne they are listed with the reason.
    """
    if form is DatasetFormat.fiftyone:
        from action100m.dataset.fiftyone.write import Export

        place = Path(run)
        chosen = Export(
            None if no_media else _videos(place, videos or []),
            _SECONDS if seconds is None else seconds,
            _checked_url(url),
            (out or place).resolve().name,
        )
        _export_fiftyone(run, out or _beside(place), chosen)
    elif out is not None or videos or no_media or seconds is not None or url is not None:
        raise UsageError(
            "--out, --videos, --no-media, --seconds and --url require --format fiftyone."
        )
    else:
        raise typer.Exit(_export_parquet(Path(run)))


def _export_parquet(run: Path) -> int:
    """Write the shards, print what was written and left out, and return the exit code."""
    from action100m.processes import available_cpus
    from action100m.runs.export import export
    from action100m.runs.folder import RunFolder
    from action100m.runs.manifest import Manifest
    from action100m.runs.settings import read_settings

    folder = RunFolder(run)
    manifest, settings = Manifest(folder), read_settings(folder)
    print_lines(map(str, export(folder, manifest, settings, available_cpus())))
    done = folder.done_keys(settings.key("segment"))
    left_out = sum(video.key not in done for video in manifest.videos)
    if not left_out:
        return 0
    why = f"not done: `action100m status {run}` says why"
    print_lines([f"Left out: {counted(left_out, 'video')}, {why}."], sys.stderr)
    return SOME_LEFT_OUT if left_out < len(manifest.videos) else NOTHING


def _videos(place: Path, inputs: list[str]) -> Mapping[str, Path]:
    from action100m.runs.discovery import local_videos

    if not inputs and not is_run_folder(place):
        raise UsageError(
            f"{place} is not a run folder, so its videos are unknown: give --videos FOLDER or "
            "--no-media."
        )
    return local_videos([place], inputs)


def _beside(place: Path) -> Path:
    if not is_run_folder(place):
        raise UsageError(f"{place} is not a run folder: give a folder for the export with --out.")
    return place / "fiftyone"


def _checked_url(url: str | None) -> str | None:
    if url is not None and "{uid}" not in url:
        raise UsageError(f"--url takes an address that contains {{uid}}, not {url}.")
    return url


def _export_fiftyone(run: str, out: Path, chosen: Export) -> None:
    from action100m.dataset.fiftyone.write import export_fiftyone

    with opened([run]) as dataset:
        with progress_bar("export", len(dataset)) as advance:
            written = export_fiftyone(dataset, out, chosen, advance)
        print_lines(written.problems, sys.stderr)
        print_lines((f"Left out: {line}" for line in written.left_out), sys.stderr)
        print_lines([f"{out}: {written.samples} samples, {len(written.left_out)} left out"])
        exit_unless_complete(written.samples, written.left_out)


@app.command("import", rich_help_panel=_PANEL)
@explained()
def import_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A dataset in FiftyOne's own format.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DATA", help="The folder for the Parquet shards.")
    ],
) -> None:
    """Write Parquet shards from FOLDER, an export to FiftyOne or by FiftyOne.

    What FiftyOne does not store is lost: captions, and segments without a label. Times are those
    of the nearest frames.
    """
    from action100m.dataset.fiftyone.read import import_fiftyone

    print_lines(map(str, import_fiftyone(folder, out)))


@app.command("app", rich_help_panel=_PANEL)
@explained()
def app_command(
    folder: FolderArgument,
    port: Annotated[int, typer.Option(help="Port of the App.")] = 5151,
) -> None:
    """Show FOLDER in the FiftyOne App until interrupted; changes made there are not saved."""
    from action100m.dataset.fiftyone.app import open_app

    open_app(folder, port)


@app.command("push", rich_help_panel=_PANEL)
@explained(resumes=True)
def push_command(
    folder: FolderArgument,
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="A dataset on the Hub.", show_default=False)
    ],
    public: Annotated[
        bool,
        typer.Option("--public", help="Make a new repository public; existing ones do not change."),
    ] = False,
) -> None:
    """Upload FOLDER to the Hugging Face Hub, where FiftyOne's `load_from_hub` can load it."""
    from action100m.dataset.fiftyone.hub import push

    print_lines([push(folder, repository, public=public)])
