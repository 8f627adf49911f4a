"""Commands about this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from action100m.cli.app import (
    FINDINGS,
    ConfigOption,
    app,
    err,
    explained,
    print_lines,
)

_PANEL = "This machine"


@app.command("doctor", rich_help_panel=_PANEL)
@explained()
def doctor_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="A folder on the disk to check.")
    ] = Path(),
) -> None:
    """Check what this machine can run, and show how to install what is missing."""
    from action100m.doctor import examine

    marks = {True: "ok", False: "MISSING", None: "-"}
    findings = examine(out)
    for finding in findings:
        print_lines([f"{marks[finding.ok]:<8}{finding.what:<22}{finding.detail}"])
        if finding.remedy:
            print_lines([f"{'':<30}→ {finding.remedy}"])
    raise typer.Exit(FINDINGS if any(finding.ok is False for finding in findings) else 0)


@app.command("demo", rich_help_panel=_PANEL)
@explained()
def demo_command(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder for the demo.")
    ] = Path("action100m-demo"),
) -> None:
    """Draw a two-minute video, make a dataset without captions of it, and write the report."""
    from action100m.demo import draw_demo_video
    from action100m.files import write_atomically
    from action100m.report.of_run import report_run
    from action100m.runs.folder import RunFolder
    from action100m.runs.run import run
    from action100m.runs.status import describe_run

    video = out / "videos" / "demo.mp4"
    if not video.exists():
        print_lines([f"Drawing {video} …"], sys.stderr)
        write_atomically(video, draw_demo_video)
    result = run([video], out / "run", console=err)
    report_run(RunFolder(out / "run"))
    print_lines(describe_run(out / "run"))
    raise typer.Exit(result.exit_code)


tensorrt = typer.Typer(help="TensorRT engines for the encoder.", no_args_is_help=True)
app.add_typer(tensorrt, name="tensorrt", rich_help_panel=_PANEL)


@tensorrt.command("build")
@explained()
def tensorrt_build_command(config: ConfigOption = None) -> None:
    """Build the engine for [segmentation.vjepa2] on this GPU, and print its path.

    A run with `encoder = "vjepa2_tensorrt"` does the same before it starts; the engine is cached
    for this model, GPU and TensorRT version.
    """
    from action100m.config import Config
    from action100m.config_file import load_config
    from action100m.segmentation.encoders import build_tensorrt_engine

    settings = load_config(config) if config else Config()
    print_lines([str(build_tensorrt_engine(settings.segmentation))])
