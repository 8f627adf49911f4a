from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from action100m.segmentation.batching import OutOfDeviceMemoryError
from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.windows import (
    OverlapMean,
    SlidingWindows,
    WindowedEncoder,
    WindowLayout,
    WindowModel,
)
from action100m.video import FrameBatch
from window_model import SmallModel, batches_of, random_video

Rows = NDArray[np.float32]

lengths = st.integers(1, 400)
partitions = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@st.composite
def models(draw: st.DrawFn) -> SmallModel:
    tubelet = draw(st.integers(1, 4))
    window = tubelet * draw(st.integers(1, 12))
    return SmallModel(window, draw(st.integers(1, window)), tubelet, draw(st.integers(1, 6)))


def encode(model: WindowModel, frames: Iterator[FrameBatch], first_row: int = 0) -> Rows:
    with WindowedEncoder(model) as encoder:
        return np.concatenate(list(encoder.encode(frames, first_row=first_row)))


def windows_of(n: int, layout: WindowLayout) -> list[tuple[int, list[int]]]:
    """Where windows start, and which frames they contain."""
    sliding = SlidingWindows(layout, lambda count, like: np.full(count, -1), SmallModel().write)
    seen = [*sliding.push(np.arange(n)), *sliding.finish()]
    return [(start, np.asarray(frames).tolist()) for start, frames in seen]


@settings(deadline=None, max_examples=150)
@given(models(), lengths, partitions)
def test_rows_equal_the_reference_implementation(
    model: SmallModel, n: int, sizes: list[int]
) -> None:
    video = random_video(n)
    rows = encode(model, batches_of(video, sizes))
    assert rows.dtype == np.float32
    assert model.prepared == n
    np.testing.assert_allclose(rows, model.encode_slowly(video), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(models(), lengths, partitions, st.integers(1, 9), st.data())
def test_resumed_and_rebatched_rows_have_the_same_bits(
    model: SmallModel, n: int, sizes: list[int], batch: int, data: st.DataObject
) -> None:
    video = random_video(n)
    rows = encode(model, batches_of(video))
    known = data.draw(st.integers(0, n))
    again = replace(model, batch=batch, prepared=0)
    np.testing.assert_array_equal(encode(again, batches_of(video, sizes), known), rows[known:])
    assert again.prepared <= n - known + model.window + model.stride - 1 or again.prepared == n


def test_windows_are_placed_as_in_the_paper() -> None:
    layout = WindowLayout(64, 8, 2)
    assert [start for start, _ in windows_of(80, layout)] == [0, 8, 16]  # not doubled at the end
    assert [start for start, _ in windows_of(81, layout)] == [0, 8, 16, 17]
    assert windows_of(64, layout) == [(0, list(range(64)))]
    assert windows_of(3, layout) == [(0, [0, 1, *[2] * 62])]
    assert windows_of(0, layout) == []
    assert all(frames == list(range(s, s + 64)) for s, frames in windows_of(1000, layout))


@pytest.mark.parametrize("tubelet", [1, 2, 3, 4])
def test_interpolation_equals_torch(tubelet: int) -> None:
    torch = pytest.importorskip("torch")
    vectors = np.random.default_rng(0).standard_normal((12, 7)).astype(np.float32)
    mean = OverlapMean(WindowLayout(12 * tubelet, 1, tubelet), 7)
    assert len(mean.add(0, vectors)) == 0
    truth = torch.nn.functional.interpolate(
        torch.from_numpy(vectors.T[None].astype(np.float64)),
        scale_factor=tubelet,
        mode="linear",
        align_corners=False,
    )[0].T.numpy()
    np.testing.assert_allclose(mean.finish(12 * tubelet), truth, rtol=1e-6, atol=1e-7)


def test_frames_may_be_tensors() -> None:
    torch = pytest.importorskip("torch")

    class TensorModel(SmallModel):
        def prepare(self, pixels: NDArray[np.uint8]) -> Any:
            with torch.inference_mode():
                return torch.from_numpy(super().prepare(pixels))

        def empty(self, frames: int, like: Any) -> Any:
            return torch.empty((frames, *like.shape[1:]), dtype=like.dtype)

        def embed(self, windows: Any) -> Rows:
            return super().embed([window.numpy() for window in windows])

    for n in (3, 100):
        video = random_video(n)
        rows = encode(TensorModel(), batches_of(video))
        np.testing.assert_array_equal(rows, encode(SmallModel(), batches_of(video)))


def test_equal_vectors_stay_equal() -> None:
    vectors = np.repeat(np.array([[0.1, 1 / 3, 1e-30, 7e8]], np.float32), 8, axis=0)
    mean = OverlapMean(WindowLayout(24, 5, 3), 4)
    rows = [*(mean.add(start, vectors) for start in (0, 5, 10, 13)), mean.finish(37)]
    np.testing.assert_array_equal(np.concatenate(rows), np.repeat(vectors[:1], 37, axis=0))


def test_rows_are_yielded_as_soon_as_they_are_final() -> None:
    taken = 0

    def watched() -> Iterator[FrameBatch]:
        nonlocal taken
        for batch in batches_of(random_video(400), (1,)):
            taken += 1
            yield batch

    model = SmallModel()
    rows = 0
    with WindowedEncoder(model) as encoder:
        for emitted in encoder.encode(watched()):
            rows += len(emitted)
            behind = model.window + model.stride * (2 * model.batch + 1)
            assert taken - rows <= behind


def test_memory_does_not_grow_with_the_video() -> None:
    class Counted(SmallModel):
        alive = peak = 0

        def empty(self, frames: int, like: Rows) -> Any:
            buffer = super().empty(frames, like)
            weakref.finalize(buffer, self.drop)
            with self.lock:
                self.alive += 1
                self.peak = max(self.peak, self.alive)
            return buffer

        def drop(self) -> None:
            self.alive -= 1

    model = Counted()
    encode(model, batches_of(random_video(5000), (100,)))
    # Two batches in progress span this many frames, and each buffer adds a window of them.
    span = 2 * model.batch * model.stride + model.window
    assert model.peak <= span / model.window + 2
    assert model.alive == 0


def test_videos_in_threads_share_batches_and_receive_their_own_rows() -> None:
    model = SmallModel(batch=8)
    videos = [random_video(n, seed=n) for n in (3, 50, 77, 120, 121, 200)]
    found: dict[int, Rows] = {}
    with WindowedEncoder(model) as encoder:

        def work(number: int) -> None:
            frames = batches_of(videos[number], (number + 1,))
            found[number] = np.concatenate(list(encoder.encode(frames)))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(videos))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number, video in enumerate(videos):
        np.testing.assert_array_equal(found[number], encode(SmallModel(), batches_of(video)))


def test_a_windowed_encoder_is_an_encoder() -> None:
    model = SmallModel()
    encoder: Encoder = WindowedEncoder(model)
    assert (encoder.name, encoder.dimension, encoder.short_side) == ("small", 5, 4)
    others = [SmallModel(stride=4), SmallModel(tubelet=1), SmallModel(identity="small/2")]
    identities = {WindowedEncoder(other).identity for other in others}
    assert len({encoder.identity, *identities}) == 4
    assert np.concatenate(list(encoder.encode(iter([])))).shape == (0, 5)


def test_an_encoder_closed_early_encodes_the_next_video() -> None:
    video = random_video(300)
    with WindowedEncoder(SmallModel()) as encoder:
        early = encoder.encode(batches_of(video))
        assert len(list(islice(early, 2))) == 2
        early.close()
        rows = np.concatenate(list(encoder.encode(batches_of(video))))
    np.testing.assert_array_equal(rows, encode(SmallModel(), batches_of(video)))


@dataclass
class FullModel(SmallModel):
    """Fits a limited number of windows, and no frames next to more than two of them."""

    room: int = 3

    def embed(self, windows: Sequence[Rows]) -> Rows:
        rows = super().embed(windows)
        if len(windows) > self.room:
            raise OutOfDeviceMemoryError("no room for windows")
        return rows

    def prepare(self, pixels: NDArray[np.uint8]) -> Rows:
        if max(self.batches, default=0) > 2:
            self.batches.clear()
            raise OutOfDeviceMemoryError("no room for frames")
        return super().prepare(pixels)


def test_running_out_of_memory_changes_no_rows() -> None:
    model, video = FullModel(batch=6, room=4), random_video(300)
    rows = encode(model, batches_of(video))
    np.testing.assert_array_equal(rows, encode(SmallModel(), batches_of(video)))
    assert max(model.batches) <= 2


def test_an_error_while_reading_frames_is_raised() -> None:
    def failing() -> Iterator[FrameBatch]:
        yield from batches_of(random_video(100))
        raise OSError("the disk is gone")

    with WindowedEncoder(SmallModel()) as encoder:
        with pytest.raises(OSError, match="the disk is gone"):
            list(encoder.encode(failing()))
        assert sum(map(len, encoder.encode(batches_of(random_video(30))))) == 30


@pytest.mark.parametrize(
    ("window", "stride", "tubelet", "message"),
    [
        (63, 8, 2, "63 frames cannot be split into tubelets of 2"),
        (0, 1, 1, "cannot be split"),
        (8, 2, 0, "cannot be split"),
        (8, 9, 2, "leave frames out"),
        (8, 0, 2, "leave frames out"),
    ],
)
def test_invalid_layouts_are_refused(window: int, stride: int, tubelet: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowedEncoder(SmallModel(window, stride, tubelet))


def test_vectors_of_the_wrong_shape_are_refused() -> None:
    class Narrow(SmallModel):
        def embed_one(self, frames: Rows) -> Rows:
            return super().embed_one(frames)[:, 1:]

    with pytest.raises(ValueError, match=r"\(4, 4\) for a window, not \(4, 5\)"):
        encode(Narrow(), batches_of(random_video(9)))


def test_rows_of_another_video_are_refused() -> None:
    with pytest.raises(ValueError, match="ends before frame 31"):
        encode(SmallModel(), batches_of(random_video(30)), first_row=31)
