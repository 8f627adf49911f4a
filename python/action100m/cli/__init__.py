"""The command line: parse, call, print. One module a group of commands."""

from __future__ import annotations


def main() -> None:
    """Entry point of the `action100m` command."""
    try:
        # Each adds its commands to the app.
        from action100m.cli import making, reading, sharing, system, training  # noqa: F401
        from action100m.cli.app import start
    except KeyboardInterrupt:  # while all that is loaded
        raise SystemExit(130) from None
    start()
