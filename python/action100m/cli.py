"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, TextIO

import typer
from rich.console import Console

from action100m import __version__
from action100m.config import Config, ConfigError, load_config, with_rounds
from action100m.dataset.validate import validate
from action100m.demo import draw_demo_video
from action100m.doctor import examine
from action100m.files import write_atomically
from action100m.report.figures import save, timeline
from action100m.report.of_run import draw_timelines, report_run
from action100m.runs.errors import NothingToDoError, RunStoppedError, UsageError
from action100m.runs.export import export, published_row
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.run import run
from action100m.runs.settings import read_config, read_settings
from action100m.runs.status import describe_run
from action100m.segmentation.encoders import build_tensorrt_engine
from action100m.segmentation.present import as_lines
from action100m.segmentation.stage import segment_file
from action100m.trace import tracing
from action100m.video.frames import VideoError

_FINDINGS = 1
_NOTHING = 1
_USAGE = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)

app = typer.Typer(
    help="Turn a folder of instructional videos into an Action100M-style dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

RunFolderArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings in TOML, like [config] in run.toml."
    ),
]


def main() -> None:
    """Entry point of the `action100m` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may be in any encoding
    signal.signal(signal.SIGTERM, _terminate)  # what a cluster sends before it kills
    app()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong for a user into a sentence and an exit code."""
    try:
        yield
    except (ConfigError, UsageError) as error:
        _fail(str(error), _USAGE)
    except (NothingToDoError, RunStoppedError) as error:
        _fail(str(error), _NOTHING)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_BROKEN_PIPE) from None
    except OSError as error:
        place = f"Cannot use {error.filename}: " if error.filename else ""
        reason = (error.strerror or str(error)).rstrip(".")
        _fail(f"{place}{reason}.", _NOTHING if error.errno in _DISK_ERRORS else _USAGE)
    except KeyboardInterrupt:
        _fail("Interrupted. What a run has done is kept: the same command goes on.", _INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    _print([message], sys.stderr)
    raise SystemExit(code)


def _print(lines: Iterable[str], file: TextIO | None = None) -> None:
    for line in lines:
        print(_harmless(line), file=file, flush=True)


def _harmless(text: str) -> str:
    """File names may hold anything: nothing may steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        _print([__version__])
        raise typer.Exit


@app.command("run")
@_explained()
def run_command(
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders (walked whole) or globs. None: those that the run knows.",
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
            help="A set of models: paper, qwen or small. Settings of --config go before its own.",
        ),
    ] = None,
    keep_rounds: Annotated[
        bool, typer.Option("--keep-rounds", help="Keep every round of Self-Refine for the report.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Videos to decode at once.  [default: one per CPU]", show_default=False
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Record where the time goes, for ui.perfetto.dev."),
    ] = None,
) -> None:
    """Make a dataset from VIDEOS, or go on with it: segment trees, and captions by models.

    The same command goes on after an interruption, a crash or a repaired file: only what is not
    done is done. A sidecar `X.info.json` beside `X.mp4`, as yt-dlp writes it, gives the metadata.

    Exit code: 0 all done, 1 nothing could be done, 2 usage, 3 some videos failed, 130 interrupted.
    """
    settings = load_config(config, profile) if config or profile else read_config(RunFolder(out))
    if keep_rounds:
        settings = with_rounds(settings or Config())
    with _traced(trace):
        result = run(videos or [], out, settings, workers=workers, console=_err)
    _print(describe_run(out))
    raise typer.Exit(result.exit_code)


@contextlib.contextmanager
def _traced(path: Path | None) -> Iterator[None]:
    """Record the block, an interrupted one too, and tell where its time went."""
    if path is None:
        yield
        return
    with tracing() as recorded:
        try:
            yield
        finally:
            recorded.write(path)
            _print(recorded.summary(), sys.stderr)


@app.command("status")
@_explained()
def status_command(run_folder: RunFolderArgument) -> None:
    """Tell how far a run is: done, failed, stale, pending and skipped videos, and why."""
    _print(describe_run(run_folder))


@app.command("export")
@_explained()
def export_command(run_folder: RunFolderArgument) -> None:
    """Write the Parquet shards of RUN anew from what is done."""
    folder = RunFolder(run_folder)
    settings = read_settings(folder)
    shards = export(folder, Manifest(folder), settings)
    _print(map(str, shards))


@app.command("report")
@_explained()
def report_command(
    run_folder: RunFolderArgument,
    figures: Annotated[
        str | None,
        typer.Option(metavar="png|svg", help="Also draw every done video's timeline."),
    ] = None,
) -> None:
    """Write RUN/report/index.html: one file that shows trees, states and failures."""
    if figures not in (None, "png", "svg"):
        raise UsageError(f"--figures takes png or svg, not {figures}.")
    folder = RunFolder(run_folder)
    _print([str(report_run(folder))])
    if figures is not None:
        _print(map(str, draw_timelines(folder, figures)))


@app.command("segment")
@_explained()
def segment_command(
    video: Annotated[Path, typer.Argument(help="A video file.", show_default=False)],
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object with the published fields.")
    ] = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the timeline to this .png or .svg file."),
    ] = None,
) -> None:
    """Print one video's tree of segments."""
    if figure is not None and figure.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--figure takes a .png or .svg file, not {figure}.")
    settings = load_config(config) if config else Config()
    try:
        segmentation = segment_file(video, settings)
    except VideoError as error:
        _fail(f"{video}: {error}", _NOTHING)
    tree = segmentation.tree(settings.cut)
    if figure is not None:
        save(timeline(tree, segmentation.thumbnails, video.stem), figure)
    if as_json:
        row = published_row(video, segmentation, tree)
        _print([json.dumps(row, ensure_ascii=False)])
    else:
        _print(as_lines(tree))


@app.command("validate")
@_explained()
def validate_command(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Parquet files, folders of them, or run folders.", show_default=False),
    ],
) -> None:
    """Check every invariant of the published format; exit code 1 if one is broken."""
    data = [path / "data" if (path / "run.toml").is_file() else path for path in paths]
    result = validate(data)
    _print(result.lines())
    raise typer.Exit(0 if result.ok else _FINDINGS)


tensorrt = typer.Typer(help="TensorRT engines of the encoder.", no_args_is_help=True)
app.add_typer(tensorrt, name="tensorrt")


@tensorrt.command("build")
@_explained()
def tensorrt_build_command(config: ConfigOption = None) -> None:
    """Build the engine that [segmentation.vjepa2] asks for, on this GPU, and print where it is.

    A run with `encoder = "vjepa2_tensorrt"` does the same before it starts; built once, the engine
    is kept in the cache for this model, GPU and TensorRT.
    """
    settings = load_config(config) if config else Config()
    _print([str(build_tensorrt_engine(settings.segmentation))])


@app.command("doctor")
@_explained()
def doctor_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Whose disk to look at.")
    ] = Path(),
) -> None:
    """Tell what this machine can do, and the command that adds what is missing."""
    marks = {True: "ok", False: "MISSING", None: "-"}
    findings = examine(out)
    for finding in findings:
        _print([f"{marks[finding.ok]:<8}{finding.what:<16}{finding.detail}"])
        if finding.remedy:
            _print([f"{'':<24}→ {finding.remedy}"])
    raise typer.Exit(_FINDINGS if any(finding.ok is False for finding in findings) else 0)


@app.command("demo")
@_explained()
def demo_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the demo goes.")
    ] = Path("action100m-demo"),
) -> None:
    """Draw a two-minute video, make a dataset of it, and write the report."""
    video = out / "videos" / "demo.mp4"
    if not video.exists():
        _print([f"Drawing {video} …"], sys.stderr)
        write_atomically(video, draw_demo_video)
    result = run([video], out / "run", console=_err)
    report_run(RunFolder(out / "run"))
    _print(describe_run(out / "run"))
    raise typer.Exit(result.exit_code)
