"""Run the command line as `python -m action100m`."""

from action100m.cli import main

main()
