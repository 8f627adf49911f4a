"""Encode frames in overlapping windows, and average each frame over its windows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from action100m.segmentation.batching import Batcher
from action100m.trace import span
from action100m.video import FrameBatch

_VERSION = 1  # of everything here that affects the results


class Frames(Protocol):
    """Prepared frames: a numpy array or a torch tensor whose first axis is time."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> Any: ...


class WindowModel(Protocol):
    """A model that encodes a window of frames at once.

    Attributes:
        name: name of the encoder.
        identity: everything that determines its results (weights, precision, version).
        window: sampled frames per window.
        stride: sampled frames from the start of one window to that of the next.
        tubelet: consecutive frames that share one vector.
        dimension: d, the length of a vector.
        short_side: the frame size that it expects, as `FrameSpec.side`.
        batch: maximum number of windows at once.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def window(self) -> int: ...

    @property
    def stride(self) -> int: ...

    @property
    def tubelet(self) -> int: ...

    @property
    def dimension(self) -> int: ...

    @property
    def short_side(self) -> int: ...

    @property
    def batch(self) -> int: ...

    def load(self) -> None:
        """Load the model. Called once, before any other method."""
        ...

    def prepare(self, pixels: NDArray[np.uint8]) -> Any:
        """Convert (b, h, w, 3) uint8 to the model's Frames (b, ...). Called from any thread."""
        ...

    def empty(self, frames: int, like: Any) -> Any:
        """Allocate a buffer for `frames` Frames like `like`, writable from any thread.

        In torch, allocate it outside `inference_mode`, or else it is writable only inside it.
        """
        ...

    def write(self, buffer: Any, place: int, frames: Any) -> None:
        """Copy Frames into a buffer, from frame number `place` of it on."""
        ...

    def embed(self, windows: Sequence[Any]) -> NDArray[np.float32]:
        """Encode b Frames (window, ...) to a new array (b, window / tubelet, d), from one thread.

        Raises:
            OutOfDeviceMemoryError: b windows are too many.
        """
        ...


@dataclass(frozen=True)
class WindowLayout:
    """Where windows start: at frames 0, stride, 2 stride...; the last one ends with the video.

    Attributes:
        window, stride, tubelet: numbers of sampled frames; see WindowModel.
    """

    window: int
    stride: int
    tubelet: int

    def __post_init__(self) -> None:
        if self.tubelet < 1 or self.window < 1 or self.window % self.tubelet:
            raise ValueError(
                f"A window of {self.window} frames cannot be split into tubelets of "
                f"{self.tubelet}: choose a multiple."
            )
        if not 1 <= self.stride <= self.window:
            raise ValueError(
                f"Windows of {self.window} frames every {self.stride} frames leave frames out: "
                f"choose a stride from 1 to {self.window}."
            )

    def first_frame(self, row: int) -> int:
        """Return the first frame that is needed to compute the rows from `row` on.

        A window starts there, and the rest of the video from there on contains at least one window
        (if the video does), so the rows have the same bits as those of the whole video.
        """
        return max(0, row - self.window) // self.stride * self.stride


class SlidingWindows:
    """Cuts windows out of frames that arrive a few at a time.

    A window is a view of a buffer with the length of two windows. When the buffer is full, a new
    one replaces it, so views stay valid while they are referenced.

    Attributes:
        end: number of frames seen, including those before `first`.
    """

    def __init__(
        self,
        layout: WindowLayout,
        empty: Callable[[int, Any], Frames],
        write: Callable[[Frames, int, Frames], None],
        first: int = 0,
    ) -> None:
        """Start with frame number `first`, at which a window starts.

        Args:
            layout: where windows start.
            empty, write: how buffers are made and filled; see WindowModel.
            first: number of the first frame.
        """
        self._layout = layout
        self._empty, self._write = empty, write
        self._buffer: Frames | None = None
        self._origin = first  # the number of the buffer's first frame
        self._next = first  # where the next window starts
        self.end = first

    def push(self, frames: Frames) -> Iterator[tuple[int, Frames]]:
        """Add the next frames; yield (start, frames) of every window that they complete."""
        while len(frames):
            buffer = self._buffer_with_room(frames)
            used = self.end - self._origin
            taken = frames[: len(buffer) - used]
            self._write(buffer, used, taken)
            frames = frames[len(taken) :]
            self.end += len(taken)
            while self._next + self._layout.window <= self.end:
                yield self._window(buffer, self._next)
                self._next += self._layout.stride

    def finish(self) -> Iterator[tuple[int, Frames]]:
        """Yield a window that covers the last frames, unless one already did."""
        if self._buffer is None:
            return
        window = self._layout.window
        seen = self.end - self._origin
        if seen < window:
            for place in range(seen, window):
                self._write(self._buffer, place, self._buffer[seen - 1 : seen])
            yield self._window(self._buffer, self._origin)
        elif self._next - self._layout.stride + window < self.end:
            yield self._window(self._buffer, self.end - window)

    def _buffer_with_room(self, frames: Frames) -> Frames:
        window = self._layout.window
        full = self._buffer
        if full is None or self.end - self._origin == len(full):
            self._buffer = self._empty(2 * window, frames)
            if full is not None:
                self._write(self._buffer, 0, full[len(full) - window :])
                self._origin = self.end - window
        assert self._buffer is not None
        return self._buffer

    def _window(self, buffer: Frames, start: int) -> tuple[int, Frames]:
        offset = start - self._origin
        return start, buffer[offset : offset + self._layout.window]


class OverlapMean:
    """Averages windows frame by frame; windows arrive in the order of their starts.

    Sums are float64, in which sums of a few float32 are exact, so frames with equal vectors have
    equal means.
    """

    def __init__(self, layout: WindowLayout, dimension: int, first: int = 0) -> None:
        """Start with the window that starts at frame `first`."""
        tubelets = layout.window // layout.tubelet
        self._tubelet = layout.tubelet
        self._shape = (tubelets, dimension)
        self._start = first
        self._sums = np.zeros((layout.window, dimension))
        self._counts = np.zeros((layout.window, 1))
        # Allocating these arrays for every window would cost more than the arithmetic.
        self._vectors = np.empty((tubelets + 2, dimension))
        self._steps = np.empty((tubelets + 1, dimension))
        self._share = np.empty((tubelets, dimension))

    def add(self, start: int, tubelets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add the window at `start`; return the rows that are final: those before `start`.

        Args:
            start: number of its first frame; not less than that of the previous window.
            tubelets: (window / tubelet, d), each at the middle of its frames. Frames between two
                middles are interpolated linearly; those before the first or after the last repeat.

        Raises:
            ValueError: tubelets have another shape.
        """
        if tubelets.shape != self._shape:
            raise ValueError(
                f"The model gave vectors of shape {tubelets.shape} for a window, not {self._shape}."
            )
        final = self._pop(start - self._start)
        self._vectors[1:-1] = tubelets
        self._vectors[0], self._vectors[-1] = tubelets[0], tubelets[-1]
        np.subtract(self._vectors[1:], self._vectors[:-1], out=self._steps)
        for phase in range(self._tubelet):
            self._add_phase(phase)
        self._counts += 1
        return final

    def finish(self, end: int) -> NDArray[np.float32]:
        """Return the remaining rows, up to frame `end`."""
        return self._pop(end - self._start)

    def _add_phase(self, phase: int) -> None:
        """Add to the frames at position `phase` of their tubelets."""
        place = (phase + 0.5) / self._tubelet + 0.5  # 1: middle of the tubelet, 0: of the previous
        left = int(place)
        tubelets = len(self._share)
        np.multiply(self._steps[left : left + tubelets], place - left, out=self._share)
        self._share += self._vectors[left : left + tubelets]
        self._sums[phase :: self._tubelet] += self._share

    def _pop(self, count: int) -> NDArray[np.float32]:
        means = self._sums[:count] / self._counts[:count]
        for kept in (self._sums, self._counts):
            kept[: len(kept) - count] = kept[count:]
            kept[len(kept) - count :] = 0
        self._start += count
        return means.astype(np.float32)


class WindowedEncoder:
    """An Encoder that uses a WindowModel; threads share it, so that videos fill batches together.

    For each video in progress, memory holds the frames of two batches of windows, plus at most four
    windows of frames. Use as a context manager, or call `close`.
    """

    def __init__(self, model: WindowModel) -> None:
        """Wrap a model.

        Raises:
            ValueError: the model's window, stride, tubelet or batch is invalid.
        """
        self._model = model
        self._layout = WindowLayout(model.window, model.stride, model.tubelet)
        self._batcher: Batcher[Any] = Batcher(model.embed, model.batch)

    def __enter__(self) -> WindowedEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the model's thread; encoding unfinished videos raises a RuntimeError."""
        self._batcher.close()

    def load(self) -> None:
        """Load the model.

        Raises:
            Exception: any error of the model.
        """
        with span("load"):
            self._model.load()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def identity(self) -> str:
        layout = self._layout
        geometry = f"{layout.window}/{layout.stride}/{layout.tubelet}"
        return f"{self._model.identity}, windows {geometry}, version {_VERSION}"

    @property
    def short_side(self) -> int:
        return self._model.short_side

    @property
    def dimension(self) -> int:
        return self._model.dimension

    def encode(
        self, frames: Iterable[FrameBatch], *, first_row: int = 0
    ) -> Generator[NDArray[np.float32], None, None]:
        """Yield (b, d) float32 rows in frame order, one row per frame.

        If the model's results do not depend on the batch, neither do the rows: they have the same
        bits for any batches of frames and any other videos being encoded.

        Args:
            frames: the whole video.
            first_row: the first row to yield. Frames that the rows from here on do not depend on
                are neither prepared nor embedded.

        Raises:
            ValueError: the video has fewer frames than `first_row`.
            RuntimeError: the encoder is closed.
            Exception: any error of the model or the frames.
        """
        first = self._layout.first_frame(first_row)
        sliding = SlidingWindows(self._layout, self._empty, self._model.write, first)
        mean = OverlapMean(self._layout, self.dimension, first)
        extra = first_row - first  # rows at the front that are already stored

        with closing(self._batcher.map(self._windows(frames, sliding))) as results:
            for start, tubelets in results:
                rows = mean.add(start, tubelets)
                if len(rows) > extra:
                    yield rows[extra:]
                extra = max(0, extra - len(rows))
        if sliding.end < first_row:
            raise ValueError(
                f"Rows up to {first_row} are stored, but the video ends before frame "
                f"{first_row}: they belong to another video."
            )
        yield mean.finish(sliding.end)[extra:]

    def _windows(
        self, batches: Iterable[FrameBatch], sliding: SlidingWindows
    ) -> Iterator[tuple[int, Frames]]:
        seen = 0
        for batch in batches:
            pixels = batch.pixels[max(0, sliding.end - seen) :]
            seen += len(batch.pixels)
            if len(pixels):
                with span("prepare", frames=len(pixels)):
                    prepared = self._batcher.fit(partial(self._model.prepare, pixels))
                yield from sliding.push(prepared)
        yield from sliding.finish()

    def _empty(self, frames: int, like: Any) -> Any:
        return self._batcher.fit(lambda: self._model.empty(frames, like))
