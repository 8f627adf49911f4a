"""The command line: parse, call, print. One module per group of commands."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `action100m` command."""
    try:
        # Importing a module adds its commands to the app.
        from action100m.cli import making, reading, sharing, system, training  # noqa: F401
        from action100m.cli.app import start
    except KeyboardInterrupt:  # during the imports
        raise SystemExit(130) from None
    start()
