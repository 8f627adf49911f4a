"""`action100m stats` over shards with the published sizes: its time, its memory, how both grow.

Each line is the command in a process of its own, start included; memory is the highest resident
set.
A million nodes should take under 5 s and 1 GiB, and four times the nodes four times the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import finish, parse_arguments, print_table
from published_sizes import draw_dataset

_SECONDS, _MEBIBYTES = 5.0, 1024.0


def measure(folder: Path) -> tuple[float, float, float]:
    """Wall-clock seconds of the command, seconds of CPU time, and MiB at its highest."""
    words = [sys.executable, "-m", "action100m", "stats", str(folder), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    arguments = parse_arguments(__doc__)
    sizes = (250_000, 1_000_000, 4_000_000) if arguments.full else (250_000, 1_000_000)
    rows, seconds, cpu, memory = [], {}, {}, {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            nodes = draw_dataset(Path(folder) / "data", size)
            runs = [measure(Path(folder) / "data") for _ in range(3)]
        seconds[size], cpu[size], _ = map(min, zip(*runs, strict=True))
        memory[size] = max(run[2] for run in runs)
        rows.append([nodes, seconds[size], cpu[size], memory[size]])
    print_table(("nodes", "seconds", "CPU seconds", "MiB"), rows)
    million = seconds[1_000_000]
    finish(
        "stats",
        ours=million,
        rival=_SECONDS,
        ratio=million / _SECONDS,
        unit="seconds a million nodes",
        mebibytes=memory[1_000_000],
        mebibytes_limit=_MEBIBYTES,
        cpu_seconds=cpu[1_000_000],
        growth=cpu[1_000_000] / cpu[250_000] / 4,
    )


if __name__ == "__main__":
    main()
