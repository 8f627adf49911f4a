"""The command line: parse, call, print. One module a group of commands."""

from action100m.cli import making, reading, sharing, system, training
from action100m.cli.app import main

__all__ = ["main", "making", "reading", "sharing", "system", "training"]
