"""Gather the frames of every segment in one pass over the video."""

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
from action100m.video import FrameStream

Frame = NDArray[np.uint8]

# A decoder that is closed before the end of its video is restarted for the next one, which takes
# about as long as decoding this many sampled frames.
_WORTH_STOPPING = 600


def choose_frames(
    times: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    count: int,
) -> list[NDArray[np.int64]]:
    """Choose the sampled frames that show each segment, from the times alone.

    Of the frames with start <= time < end, those in the middle of `count` equal parts are chosen,
    or all of them if there are at most `count`. A segment without any is shown by the one frame
    nearest to its middle. With `count` = 1 the middle frame is chosen.

    Args:
        times: (n,) seconds, strictly increasing, n >= 1.
        start, end: (m,) seconds, the limits of the segments.
        count: maximum number of frames per segment.

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
    """Limit on the bytes of frames in memory, shared by the videos of a stage.

    Every frame counts as long as anything references it: `gather`, or a pending request.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.RLock()  # a frame may be garbage-collected while it is held

    @property
    def exceeded(self) -> bool:
        """Whether the frames in memory exceed the limit."""
        return self._used > self._limit

    def count(self, frame: Frame) -> None:
        """Count a frame until it is garbage-collected."""
        self._add(frame.nbytes)
        weakref.finalize(frame, self._add, -frame.nbytes)

    def _add(self, size: int) -> None:
        with self._lock:
            self._used += size


@dataclass(frozen=True, eq=False)
class Want:
    """Frames that are wanted together.

    Attributes:
        key: identifies the want.
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
    """Read a video once and yield the frames of each want as soon as the last of them is read.

    The stream is read only as results are requested, so a consumer that waits pauses the decoder.
    If the frames that are kept still exceed the budget, those that are needed last are moved to an
    unnamed file. Wants share their frames, which must not be modified.

    Args:
        stream: the video, sampled as it was when it was segmented; closed at the end, or after
            the last wanted frame.
        times: (n,) seconds, the times of its sampled frames.
        wants: the wanted frames, in any order.
        budget: limit that all videos share.
        folder: folder of the unnamed file.

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
    """Yield the frames up to the last wanted one; read the rest only if that is cheaper."""
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
    """Frames that are kept until all frames of their want are available."""

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
        self._dropped = defaultdict(list)  # frames by the last frame of their last want
        for number, last in self._until.items():
            self._dropped[last].append(number)
        self.last = max(self._complete, default=-1)
        self._frames: dict[int, Frame] = {}
        # A frame on the disk may still belong to a pending request. All wants get that array:
        # copies would take more memory than spilling frees.
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
    """Frames in an unnamed file, which the system removes when the process ends."""

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
                raise OSError(f"A file of spilled frames in {self._folder} is truncated.")
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
