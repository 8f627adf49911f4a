from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from action100m.errors import RunStoppedError
from action100m.processes import _as_sent, call_in_processes, python_command


@pytest.mark.parametrize("processes", [1, 3])
def test_every_call_is_made_once(processes: int, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(10)]
    call_in_processes(os.mkdir, [(folder,) for folder in folders], processes)  # not twice
    assert sorted(tmp_path.iterdir()) == sorted(folders)


@pytest.mark.parametrize("processes", [1, 3])
def test_results_come_in_the_order_of_the_calls(processes: int) -> None:
    numbers = [(10.0 - k,) for k in range(10)]
    assert call_in_processes(math.sqrt, numbers, processes) == [math.sqrt(*n) for n in numbers]


@pytest.mark.parametrize("processes", [1, 3])
def test_an_error_is_raised_and_the_rest_is_dropped(processes: int, tmp_path: Path) -> None:
    slowly = [(["sh", "-c", f"sleep 0.05; mkdir {tmp_path / str(k)}"],) for k in range(200)]
    with pytest.raises(subprocess.CalledProcessError, match="exit status 7"):
        call_in_processes(subprocess.check_call, [(["sh", "-c", "exit 7"],), *slowly], processes)
    assert len(list(tmp_path.iterdir())) < (1 if processes == 1 else 200)


@pytest.mark.parametrize(
    ("function", "argument", "how"),
    [
        (os._exit, 3, "exited with code 3"),
        (signal.raise_signal, signal.SIGKILL, "was killed by SIGKILL"),
    ],
)
def test_a_process_that_dies_is_reported(
    function: Callable[[Any], object], argument: int, how: str
) -> None:
    with pytest.raises(RunStoppedError, match=how):
        call_in_processes(function, [(argument,)] * 2, 2)


class UnsendableError(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def test_an_error_that_cannot_be_pickled_keeps_its_message() -> None:
    error = _as_sent(UnsendableError("what ", "happened"))
    assert str(error) == "UnsendableError: what happened"
    assert _as_sent(error) is error


def test_output_of_a_call_is_not_taken_for_its_result(capfd: pytest.CaptureFixture[str]) -> None:
    call_in_processes(os.write, [(1, b"spoken\n")] * 3, 2)  # print may take two writes a line
    assert capfd.readouterr().err == "spoken\n" * 3


def test_a_script_needs_no_main_guard_and_its_folder_is_not_imported(tmp_path: Path) -> None:
    for name in ("ast", "importlib", "pickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "import os\n"
        "from action100m.processes import call_in_processes\n"
        "call_in_processes(os.mkdir, [('a',), ('b',)], 2)\n"
    )
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").is_dir()


def test_an_interruption_ends_the_processes(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "from action100m.processes import call_in_processes\n"
        "call_in_processes(time.sleep, [(97.25,)] * 2, 2)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as process:
        while len(children_of(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        children = children_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    if not found.exists():
        pytest.skip("/proc does not list children here")
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def test_a_command_passes_literals() -> None:
    command = python_command("test_support_that_is_not_there", "a b", 3)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "No module named 'test_support_that_is_not_there'" in result.stderr
