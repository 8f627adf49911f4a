"""The frames of every segment, gathered while the video goes by once, in order."""

from __future__ import annotations

import heapq
import os
import tempfile
import threading
import weakref
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video.frames import FrameStream

Frame = NDArray[np.uint8]

# A decoder that is closed before the end of its video is started anew for the next one, which takes
# about as long as decoding this many sampled frames.
_WORTH_STOPPING = 600


def choose_frames(
    times: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    count: int,
) -> list[NDArray[np.int64]]:
    """Which sampled frames show each segment: a pure function of the times.

    Of the frames with start <= time < end, those in the middle of `count` equal parts; all of
    them, if they are not more than `count`. A segment without any is shown by the one frame
    nearest to its middle. With `count` = 1 that is the middle frame.

    Args:
        times: (n,) seconds, strictly increasing, n >= 1.
        start, end: (m,) seconds.
        count: at most so many frames for a segment.

    Returns:
        For each segment the numbers of its frames, strictly increasing, at least one.
    """
    first, last = np.searchsorted(times, start), np.searchsorted(times, end)
    middle = (start + end) / 2
    after = np.clip(np.searchsorted(times, middle), 1, max(1, len(times) - 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    nearest = np.where(middle - times[before] <= times[after] - middle, before, after)
    parts = 2 * np.arange(count) + 1
    chosen = []
    for low, high, near in zip(first.tolist(), last.tolist(), nearest.tolist(), strict=True):
        size = high - low
        if size > count:
            chosen.append(low + parts * size // (2 * count))
        else:
            chosen.append(np.arange(low, high) if size else np.array([near]))
    return chosen


class Budget:
    """Bytes of frames that may be in memory at once; shared by the videos of a stage.

    Every frame counts as long as anybody holds it: a gathering, or a request on its way.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.RLock()  # a frame may be collected while it is held

    @property
    def exceeded(self) -> bool:
        """Whether more is held than allowed."""
        return self._used > self._limit

    def count(self, frame: Frame) -> None:
        """Count a frame until it is garbage."""
        self._add(frame.nbytes)
        weakref.finalize(frame, self._add, -frame.nbytes)

    def _add(self, size: int) -> None:
        with self._lock:
            self._used += size


@dataclass(frozen=True, eq=False)
class Want:
    """Frames that somebody wants together.

    Attributes:
        key: tells it from the others.
        frames: numbers of sampled frames, strictly increasing, at least one.
    """

    key: bytes
    frames: NDArray[np.int64]


def gather(
    stream: FrameStream,
    times: NDArray[np.float64],
    wants: Sequence[Want],
    budget: Budget,
    folder: Path,
) -> Generator[tuple[Want, list[Frame]], None, None]:
    """Read a video once and give each want its frames as soon as the last of them has come by.

    The stream is read only as the results are asked for, so a consumer that waits holds up the
    decoder. Where the frames that wait for others exceed the budget all the same, those that are
    needed last go to an unnamed file. Wants share their frames: they must not be changed.

    Args:
        stream: the video, sampled as it was when it was segmented; closed at the end, or once
            nothing is left to wait for.
        times: (n,) seconds, the times of its sampled frames.
        wants: in any order.
        budget: of all videos.
        folder: where the file goes.

    Raises:
        VideoError: the stream ends early, or its frames have other times.
        OSError: the disk is full.
    """
    shelf = _Shelf(wants, budget, folder)
    try:
        for number, frame in _numbered(stream, times, shelf.last):
            yield from shelf.put(number, frame)
    finally:
        shelf.close()
        stream.close()


def _numbered(
    stream: FrameStream, times: NDArray[np.float64], last: int
) -> Iterator[tuple[int, Frame]]:
    """The frames up to the last one that is wanted; the rest is read, or left, whatever is less."""
    number = 0
    for batch in stream:
        if not np.array_equal(batch.times, times[number : number + len(batch.times)]):
            raise VideoError(_changed(number, times))
        for frame in batch.pixels:
            if number <= last:
                yield number, frame
            number += 1
        if number > last and len(times) - number > _WORTH_STOPPING:
            return
    if number <= last:
        raise VideoError(_changed(number, times))


def _changed(number: int, times: NDArray[np.float64]) -> str:
    return (
        f"Its frames from {times[min(number, len(times) - 1)]:.1f} s on are not those that were "
        "there when it was segmented. Restore the file, or use a new run folder."
    )


class _Shelf:
    """Frames that wait until all of their want are there."""

    def __init__(self, wants: Sequence[Want], budget: Budget, folder: Path) -> None:
        self._budget = budget
        self._spill = _Spill(folder)
        self._complete = defaultdict(list)  # wants by their last frame
        self._until: dict[int, int] = {}  # for each wanted frame, the last want's last frame
        for want in wants:
            last = int(want.frames[-1])
            self._complete[last].append(want)
            for number in want.frames.tolist():
                self._until[number] = max(last, self._until.get(number, last))
        self._dropped = defaultdict(list)  # frames by when nobody wants them any more
        for number, last in self._until.items():
            self._dropped[last].append(number)
        self.last = max(self._complete, default=-1)
        self._frames: dict[int, Frame] = {}
        # A frame that went to the disk may still be on its way with a request: it is the same one
        # for all, or spilling would take more memory than it frees.
        self._alive: weakref.WeakValueDictionary[int, Frame] = weakref.WeakValueDictionary()
        self._needed: list[tuple[int, int]] = []  # a heap: those needed last come first

    def put(self, number: int, frame: Frame) -> Iterator[tuple[Want, list[Frame]]]:
        """Keep a frame if it is wanted; yield the wants that it completes."""
        if number not in self._until:
            return
        kept = frame.copy()  # a view would keep its whole batch alive
        self._budget.count(kept)
        self._frames[number] = self._alive[number] = kept
        heapq.heappush(self._needed, (-self._until[number], number))
        del kept, frame
        self._make_room()
        for want in self._complete.pop(number, ()):
            yield want, [self._get(other) for other in want.frames.tolist()]
        for done in self._dropped.pop(number, ()):
            self._frames.pop(done, None)
            self._spill.drop(done)

    def close(self) -> None:
        self._frames.clear()
        self._spill.close()

    def _get(self, number: int) -> Frame:
        frame = self._alive.get(number)
        if frame is None:
            frame = self._alive[number] = self._spill.get(number)
            self._budget.count(frame)
        return frame

    def _make_room(self) -> None:
        while self._budget.exceeded and self._needed:
            _, number = heapq.heappop(self._needed)
            frame = self._frames.pop(number, None)
            if frame is not None:
                self._spill.put(number, frame)


class _Spill:
    """Frames in an unnamed file, which the system removes with us."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._shape: tuple[int, ...] = ()

    def put(self, number: int, frame: Frame) -> None:
        if self._descriptor is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._shape = frame.shape
            self._descriptor, name = tempfile.mkstemp(dir=self._folder)
            Path(name).unlink()
        slot = self._free.pop() if self._free else len(self._slots)
        self._slots[number] = slot
        rest = np.ascontiguousarray(frame).data.cast("B")
        offset = slot * frame.nbytes
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def get(self, number: int) -> Frame:
        assert self._descriptor is not None
        frame = np.empty(self._shape, np.uint8)
        offset = self._slots[number] * frame.nbytes
        view = frame.data.cast("B")
        while view:
            count = os.preadv(self._descriptor, [view], offset)
            if not count:
                raise OSError(f"A file of spilled frames in {self._folder} was cut off.")
            view, offset = view[count:], offset + count
        return frame

    def drop(self, number: int) -> None:
        slot = self._slots.pop(number, None)
        if slot is not None:
            self._free.append(slot)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
