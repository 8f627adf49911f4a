"""Call the command line as a user does, in a separate process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def command(*arguments: str | Path) -> list[str]:
    """The words of an `action100m` command."""
    return [sys.executable, "-m", "action100m", *map(str, arguments)]


def call(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its output as text."""
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )
