"""The base of the command line: the app, the handling of errors, and the printing of lines."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, TextIO

import typer
from rich.console import Console

from action100m import __version__
from action100m.errors import (
    DISK_ERRORS,
    ConfigError,
    DatasetError,
    NothingToDoError,
    RunStoppedError,
    UsageError,
)
from action100m.text import harmless, shows

FINDINGS = 1
NOTHING = 1
USAGE = 2
SOME_LEFT_OUT = 3
INTERRUPTED = 130
BROKEN_PIPE = 141

app = typer.Typer(
    help="Turn a folder of instructional videos into an Action100M-style dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

RunFolderArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="A TOML file of settings, like [config] in run.toml."
    ),
]


def start() -> None:
    """Run the command in `sys.argv`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may be in any encoding
    signal.signal(signal.SIGTERM, _terminate)  # what a cluster sends before it kills
    _refuse_empty(sys.argv[1:])
    app()


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse what is left of an unset variable: as a path, it would mean the working directory."""
    for before, given in pairwise(["action100m", *arguments]):
        if not given or re.fullmatch("--[a-z-]+=", given):
            place = given or f"after {before}"
            fail(
                f"An argument is empty ({place}): is a variable of the shell not set? The working "
                "directory is written as a dot.",
                USAGE,
            )


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def explained(*, resumes: bool = False) -> Iterator[None]:
    """Turn the errors that a user can meet into a sentence and an exit code.

    Args:
        resumes: whether the same command resumes after an interruption.
    """
    try:
        yield
    except (ConfigError, DatasetError, UsageError) as error:
        fail(str(error), USAGE)
    except (NothingToDoError, RunStoppedError) as error:
        fail(str(error), NOTHING)
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        place = f"Cannot use {error.filename}: " if error.filename else ""
        reason = (error.strerror or str(error)).rstrip(".")
        fail(f"{place}{reason}.", NOTHING if error.errno in DISK_ERRORS else USAGE)
    except KeyboardInterrupt:
        kept = " Finished work is kept: run the same command again to resume." if resumes else ""
        fail(f"Interrupted.{kept}", INTERRUPTED)


def fail(message: str, code: int) -> NoReturn:
    print_lines([message], sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs, on a terminal; call what is yielded for each video."""
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda uid: bar.advance(task)


def exit_unless_complete(written: int, left_out: Sequence[str]) -> None:
    """End with the exit code of a command that could not write everything."""
    if left_out or not written:
        raise typer.Exit(SOME_LEFT_OUT if written else NOTHING)


def check_figure(path: Path | None) -> None:
    """Check a figure's file type before the work, so that drawing it does not fail afterwards."""
    if path is not None and path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--figure takes a .png or .svg file, not {path}.")


def print_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
    for line in lines:
        print(harmless(line), file=file, flush=True)


def print_json(value: object) -> None:
    """Print a JSON value on one line, with JSON's escapes for what a terminal would act on."""
    # The backslashes that stand for what another encoding lacks would not be JSON, see `start`.
    text = json.dumps(value, ensure_ascii=sys.stdout.encoding.lower() != "utf-8")
    print("".join(c if shows(c) else json.dumps(c)[1:-1] for c in text), flush=True)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        print_lines([__version__])
        raise typer.Exit
