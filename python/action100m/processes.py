"""Start Python processes, and distribute calls over several of them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import Any, TypeVar

from action100m.errors import RunStoppedError

Answer = TypeVar("Answer")

_START = """
import sys
sys.path[:] = [place for place in sys.path if place]
import ast, importlib
sys.path[:], module, *arguments = map(ast.literal_eval, sys.argv[1:])
sys.exit(importlib.import_module(module).main(*arguments))
"""


def available_cpus() -> int:
    """Return the number of CPUs that this process may use; a cluster job often has only a few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python_command(module: str, *arguments: object) -> list[str]:
    """Return a command that calls `module.main(*arguments)` in a new Python process.

    The process has our own search path, and is not started by `-m`: a file in the working directory
    that is named like a module must not be imported. It is not started by multiprocessing either,
    which requires a `__main__` guard in the user's script.

    Args:
        module: dotted name of the module.
        arguments: values that are written as Python literals.
    """
    words = [str(place) for place in sys.path], module, *arguments
    return [sys.executable, "-c", _START, *map(repr, words)]


def call_in_processes(
    function: Callable[..., Answer], calls: Sequence[tuple[Any, ...]], processes: int
) -> list[Answer]:
    """Call a function once with each tuple of arguments; in this process if one is enough.

    Returns:
        The results, in the order of the calls.

    Args:
        function: defined at the top level of a module; its results can be pickled.
        calls: arguments that can be pickled.
        processes: maximum number of processes.

    Raises:
        Exception: what a call raised; calls that have not begun are dropped then.
        RunStoppedError: a process died.
    """
    if min(processes, len(calls)) <= 1:
        return [function(*arguments) for arguments in calls]
    answers: dict[int, Answer] = {}
    waiting = deque(enumerate(calls))
    children: list[subprocess.Popen[bytes]] = []
    with ThreadPoolExecutor(min(processes, len(calls))) as pool:
        try:
            threads = [
                pool.submit(_call_in_child, function, waiting, answers, children)
                for _ in range(min(processes, len(calls)))
            ]
            for thread in as_completed(threads):
                thread.result()
        except BaseException:
            waiting.clear()
            for child in children:
                child.kill()
            raise
    return [answers[number] for number in range(len(calls))]


def _call_in_child(
    function: Callable[..., Answer],
    waiting: deque[tuple[int, tuple[Any, ...]]],
    answers: dict[int, Answer],
    children: list[subprocess.Popen[bytes]],
) -> None:
    child = subprocess.Popen(
        python_command(__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is handled by this process
    )
    children.append(child)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:  # closes its stdin, on which it ends
        while waiting:
            try:
                number, arguments = waiting.popleft()
                pickle.dump((function, arguments), child.stdin)
                child.stdin.flush()
                error, answers[number] = pickle.load(child.stdout)
            except IndexError:  # another thread took the last one
                return
            except (EOFError, OSError):
                with suppress(BrokenPipeError):
                    child.stdin.close()
                raise RunStoppedError(_obituary(child.wait())) from None
            if error is not None:
                raise error


def _obituary(code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
    return (
        f"A helper process {how}. If memory ran out, use fewer --workers, or fewer CPUs (taskset); "
        "then run the same command again."
    )


def main() -> None:
    """Make the calls that come through stdin until it is closed, and answer through stdout."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a call prints must not mix with the answers
        while True:
            try:
                function, arguments = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            answer = _answer(function, arguments)
            try:
                pickle.dump(answer, answers)
                answers.flush()
            except BrokenPipeError:  # nobody waits for it any longer
                os._exit(1)


def _answer(
    function: Callable[..., object], arguments: tuple[Any, ...]
) -> tuple[Exception | None, object]:
    try:
        return None, function(*arguments)
    except Exception as error:
        return _as_sent(error), None


def _as_sent(error: Exception) -> Exception:
    """Return an error that can be pickled, or one with the same words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # pickling calls the error's own code, which may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
