"""Commands that read a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import (
    FINDINGS,
    app,
    explained,
    print_lines,
)
from action100m.dataset.validate import validate

_PANEL = "Read a dataset"


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
