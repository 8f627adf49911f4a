from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from action100m.captioning.frames import Budget, Want, choose_frames, gather
from action100m.errors import VideoError
from action100m.video import Decoder, DecodeReport, FrameBatch, FrameSpec, VideoInfo
from synthetic import write_video

SHAPE = (6, 8, 3)
BYTES = int(np.prod(SHAPE))


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


class Film:
    """A stream of `count` known pictures in batches of seven; counts how many were read."""

    info = VideoInfo(8, 6, 30.0, None, "none", "none")
    report = DecodeReport(0, 0, 0.0, 0, 0, "")

    def __init__(self, times: NDArray[np.float64]) -> None:
        self.times = times
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[FrameBatch]:
        for start in range(0, len(self.times), 7):
            index = np.arange(start, min(start + 7, len(self.times)))
            self.read = int(index[-1]) + 1
            pixels = np.stack([picture(number) for number in index.tolist()])
            yield FrameBatch(index * 4, self.times[index], pixels)

    def close(self) -> None:
        self.closed = True


@st.composite
def times_and_segments(draw: st.DrawFn) -> tuple[NDArray[np.float64], list[tuple[float, float]]]:
    gaps = draw(st.lists(st.floats(0.01, 2), min_size=1, max_size=60))
    times = np.concatenate(([0.0], np.cumsum(gaps)))
    moments = st.floats(0, float(times[-1]) + 1)
    segments = draw(st.lists(st.tuples(moments, moments), min_size=1, max_size=9))
    return times, [(min(pair), max(pair)) for pair in segments]


@given(drawn=times_and_segments(), count=st.integers(1, 40))
def test_frames_are_evenly_spaced_within_their_segment(
    drawn: tuple[NDArray[np.float64], list[tuple[float, float]]], count: int
) -> None:
    times, segments = drawn
    start, end = np.array(segments).T
    chosen = choose_frames(times, start, end, count)
    for (low, high), frames in zip(segments, chosen, strict=True):
        inside = [k for k, time in enumerate(times) if low <= time < high]
        if not inside:
            distance = abs(times - (low + high) / 2)
            assert len(frames) == 1
            assert distance[frames[0]] == pytest.approx(distance.min())
        elif len(inside) <= count:
            assert frames.tolist() == inside
        else:
            parts = np.array_split(np.arange(count * len(inside)), count)
            middles = [inside[int(part[len(part) // 2]) // count] for part in parts]
            assert len(set(frames.tolist())) == count
            assert np.abs(frames - np.array(middles)).max() <= 1


@given(data=st.data(), limit=st.sampled_from([0, 3 * BYTES, 100 * BYTES]))
def test_each_want_receives_its_own_frames(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, limit: int
) -> None:
    count = data.draw(st.integers(1, 50))
    numbers = st.sets(st.integers(0, count - 1), min_size=1, max_size=12).map(sorted)
    lists = data.draw(st.lists(numbers, min_size=1, max_size=12))
    wants = [Want(b"%d" % k, np.array(numbers)) for k, numbers in enumerate(lists)]
    film = Film(np.arange(count) / 7.5)
    kept = data.draw(st.booleans())
    results = []
    folder = tmp_path_factory.getbasetemp()
    for want, frames in gather(film, film.times, wants, Budget(limit), folder):
        assert film.read > want.frames[-1]
        for number, frame in zip(want.frames.tolist(), frames, strict=True):
            assert np.array_equal(frame, picture(number))
        results.append((want.key, frames if kept else None))
    assert sorted(key for key, _ in results) == sorted(want.key for want in wants)
    assert film.closed


def test_nested_segments_share_their_frames(tmp_path: Path) -> None:
    film = Film(np.arange(30) / 7.5)
    wants = [Want(b"child", np.arange(10)), Want(b"parent", np.arange(0, 20, 2))]
    gathered = {
        want.key: frames
        for want, frames in gather(film, film.times, wants, Budget(10**9), tmp_path)
    }
    assert all(a is b for a, b in zip(gathered[b"child"][::2], gathered[b"parent"], strict=False))


def test_memory_stays_within_the_budget_for_deep_trees(tmp_path: Path) -> None:
    count = 400
    wants = [
        Want(b"%d" % first, np.unique(np.linspace(first, count - 1, 32).astype(int)))
        for first in range(count - 40)
    ]
    film, budget = Film(np.arange(count) / 7.5), Budget(20 * BYTES)
    most = 0
    for want, frames in gather(film, film.times, wants, budget, tmp_path):
        assert np.array_equal(frames[0], picture(int(want.frames[0])))
        most = max(most, budget._used)
    assert most <= (20 + 32 + 1) * BYTES  # the budget, and the want that is yielded
    del frames
    gc.collect()
    assert budget._used == 0
    assert not list(tmp_path.iterdir())


def test_spilled_frames_are_shared_while_requests_hold_them(tmp_path: Path) -> None:
    film, budget = Film(np.arange(200) / 7.5), Budget(20 * BYTES)
    shared = np.linspace(0, 99, 31).astype(int)
    wants = [Want(b"%d" % k, np.append(shared, 100 + k)) for k in range(100)]
    held = [frames for _, frames in gather(film, film.times, wants, budget, tmp_path)]
    assert budget._used <= (len(shared) + len(wants)) * BYTES
    for want, frames in zip(wants, held, strict=True):
        assert all(map(np.array_equal, frames, map(picture, want.frames.tolist())))


def test_frames_are_read_only_on_demand(tmp_path: Path) -> None:
    film = Film(np.arange(700) / 7.5)
    wants = [Want(b"%d" % k, np.array([k * 10])) for k in range(70)]
    gathered = gather(film, film.times, wants, Budget(10**9), tmp_path)
    next(gathered)
    assert film.read == 7
    gathered.close()
    assert film.closed


def test_reading_stops_after_the_last_wanted_frame(tmp_path: Path) -> None:
    film = Film(np.arange(5000) / 7.5)
    list(gather(film, film.times, [Want(b"", np.array([10]))], Budget(10**9), tmp_path))
    assert film.read == 14


@pytest.mark.parametrize("change", ["fewer", "shifted"])
def test_a_different_video_under_the_same_name_is_reported(change: str, tmp_path: Path) -> None:
    times = np.arange(50) / 7.5
    film = Film(times[:30] if change == "fewer" else times + 0.01)
    with pytest.raises(VideoError, match="Restore the file"):
        list(gather(film, times, [Want(b"", np.array([40]))], Budget(10**9), tmp_path))


@pytest.mark.parametrize("size", [(128, 72), (72, 128), (64, 64)])
@pytest.mark.parametrize("aspect", ["stretch", "pad", "crop"])
def test_pictures_become_square(aspect: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", [0.5], size=size)
    with Decoder() as decoder:
        (whole,) = decoder.open(path, FrameSpec(4, 48))
        (square,) = decoder.open(path, FrameSpec(4, 48, aspect))  # type: ignore[arg-type]
    assert square.pixels.shape[1:] == (48, 48, 3)
    height, width = whole.pixels.shape[1:3]
    if aspect == "crop":
        top, left = (height - 48) // 2, (width - 48) // 2
        assert np.array_equal(square.pixels, whole.pixels[:, top : top + 48, left : left + 48])
    elif aspect == "pad":
        bars = 48 - round(48 * min(size) / max(size))
        black = (square.pixels == 0).all(axis=(0, 3))
        lines = black.all(axis=1 if size[0] > size[1] else 0)
        assert lines.sum() == bars
    else:
        assert not (square.pixels == 0).all(axis=(0, 3)).all(axis=0).any()
