"""Progress of a stage: a live bar on a terminal, a line every 30 seconds in a log file."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from action100m.text import clock

_LOG_EVERY = 30.0  # seconds between lines if the console is not a terminal
_REFRESH = 0.5


class StageProgress:
    """Thread-safe context manager that counts the videos, video-seconds and bytes of a stage.

    The time left is estimated from the bytes, the only size of a video known in advance; so are
    the video-seconds of videos that other processes finish.
    """

    def __init__(self, stage: str, sizes: dict[str, int], console: Console) -> None:
        """`sizes`: bytes of every video to process, by uid."""
        self._stage = stage
        self._sizes = sizes
        self._console = console
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, float]] = {}  # uid: seconds seen, share of the file
        self._seconds = 0.0
        self._bytes = 0  # of videos that this process finished
        self._found = 0  # bytes of videos that others finished
        self._done = 0
        self._failed = 0
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task(stage, total=sum(sizes.values()) or 1, figures="")
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> StageProgress:
        self._ticker.start()  # first: if no thread can be started, the bar would stay
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        if self._console.is_terminal:
            self._bar.stop()
        self._print_line()

    def advance(self, uid: str, seconds: float, claimed: float | None) -> None:
        """Record `seconds` done of a video's `claimed` duration, or that share of its answers."""
        share = min(1.0, seconds / claimed) if claimed else 0.0
        with self._lock:
            self._running[uid] = (seconds, share)

    def finish(self, uid: str, *, failed: bool) -> None:
        """Record that this process has finished a video."""
        with self._lock:
            seconds, _ = self._running.pop(uid, (0.0, 0.0))
            self._seconds += seconds
            self._bytes += self._sizes[uid]
            self._count(failed=failed)

    def find(self, uid: str, *, failed: bool) -> None:
        """Record that another process has finished a video."""
        with self._lock:
            self._found += self._sizes[uid]
            self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        self._done += not failed
        self._failed += failed

    def retry(self, uid: str) -> None:
        """Record that a video starts again."""
        with self._lock:
            self._running.pop(uid, None)

    def line(self) -> str:
        """Return the progress as one line."""
        return f"{self._stage}: {self._figures()}"

    def _print_line(self) -> None:
        self._console.print(self.line(), highlight=False, soft_wrap=True)

    def _figures(self) -> str:
        with self._lock:
            elapsed = max(time.monotonic() - self._start, 1e-9)
            ended = self._done + self._failed
            read = self._read_bytes()
            seconds = self._seconds + sum(seen for seen, _ in self._running.values())
        if read > self._found:
            seconds *= read / (read - self._found)
        figures = [f"{ended}/{len(self._sizes)} videos"]
        if self._failed:
            figures.append(f"{self._failed} failed")
        figures.append(f"{ended / elapsed:.2f} videos/s")
        figures.append(f"{seconds / elapsed:.1f} video-seconds/s")
        if ended < len(self._sizes):
            left = (sum(self._sizes.values()) - read) / read * elapsed if read else None
            figures.append(f"{clock(left)} left" if left is not None else "time left unknown")
        else:
            figures.append(f"took {clock(elapsed)}")
        return ", ".join(figures)

    def _read_bytes(self) -> float:
        partial = sum(self._sizes[uid] * share for uid, (_, share) in self._running.items())
        return self._bytes + self._found + partial

    def _tick(self) -> None:
        if not self._console.is_terminal:
            while not self._ended.wait(_LOG_EVERY):
                self._print_line()
            return
        while not self._ended.wait(_REFRESH):
            with self._lock:
                completed = self._read_bytes()
            self._bar.update(self._task, completed=completed, figures=self._figures())
            self._bar.refresh()
