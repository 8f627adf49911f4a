"""The command line's frame: the app, what errors become, and how lines are printed."""

from __future__ import annotations

import contextlib
import io
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
from action100m.errors import (
    DISK_ERRORS,
    ConfigError,
    DatasetError,
    NothingToDoError,
    RunStoppedError,
    UsageError,
)

FINDINGS = 1
NOTHING = 1
USAGE = 2
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
        "--config", "-c", metavar="FILE", help="Settings in TOML, like [config] in run.toml."
    ),
]


def start() -> None:
    """Run the command that was given."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may be in any encoding
    signal.signal(signal.SIGTERM, _terminate)  # what a cluster sends before it kills
    app()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextlib.contextmanager
def explained(*, goes_on: bool = False) -> Iterator[None]:
    """Turn what can go wrong for a user into a sentence and an exit code.

    Args:
        goes_on: whether the command, given again, goes on where it was interrupted.
    """
    try:
        yield
    except (ConfigError, DatasetError, UsageError) as error:
        fail(str(error), USAGE)
    except (NothingToDoError, RunStoppedError) as error:
        fail(str(error), NOTHING)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        place = f"Cannot use {error.filename}: " if error.filename else ""
        reason = (error.strerror or str(error)).rstrip(".")
        fail(f"{place}{reason}.", NOTHING if error.errno in DISK_ERRORS else USAGE)
    except KeyboardInterrupt:
        kept = " What is done is kept: the same command goes on." if goes_on else ""
        fail(f"Interrupted.{kept}", INTERRUPTED)


def fail(message: str, code: int) -> NoReturn:
    print_lines([message], sys.stderr)
    raise SystemExit(code)


def check_figure(path: Path | None) -> None:
    """Tell before the work what would keep a figure from being drawn after it."""
    if path is not None and path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--figure takes a .png or .svg file, not {path}.")


def print_lines(lines: Iterable[str], file: TextIO | None = None) -> None:
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
        print_lines([__version__])
        raise typer.Exit
