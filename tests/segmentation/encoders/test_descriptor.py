from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import action100m
from action100m.segmentation.encoders.base import Encoder
from action100m.segmentation.encoders.descriptor import DescriptorEncoder, describe
from action100m.video import FrameBatch
from synthetic import draw_frame

Frames = NDArray[np.uint8]


def random_frames(n: int, height: int, width: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def batch_of(pixels: Frames) -> FrameBatch:
    numbers = np.arange(len(pixels))
    return FrameBatch(numbers, numbers / 7.5, pixels)


def squared_distance(a: Frames, b: Frames) -> float:
    rows = describe(np.stack([a, b]))
    return float(((rows[0] - rows[1]) ** 2).sum())


def spans(side: int, n: int) -> list[slice]:
    return [slice(i * side // n, max((i + 1) * side // n, i * side // n + 1)) for i in range(n)]


def describe_by_numpy(frame: Frames) -> NDArray[np.float64]:
    """The published maths of the descriptor, in a slow and simple form."""
    red, green, blue = np.moveaxis(frame.astype(np.int64), 2, 0)
    luma = (77 * red + 150 * green + 29 * blue) >> 8
    padded = np.pad(luma, 1, mode="edge")
    across = padded[1:-1, 2:] - padded[1:-1, :-2]
    along = padded[2:, 1:-1] - padded[:-2, 1:-1]
    edges = [np.maximum(slope - 6, 0) for slope in (across, -across, along, -along)]
    colours = [luma / 255, (red - blue) / 255, (2 * green - red - blue) / 510]
    height, width = luma.shape
    down, across = (12, 8) if height > width else (8, 12)
    cells = [(y, x) for y in spans(height, down) for x in spans(width, across)]
    sums = np.array([[edge[cell].sum() for edge in edges] for cell in cells])
    flat = np.array([[16 * luma[cell].size] for cell in cells])
    shares = np.sqrt(sums / (sums.sum(1, keepdims=True) + flat))
    means = np.array([[colour[cell].mean() for colour in colours] for cell in cells])
    return np.hstack([shares, 0.5 * means]).ravel() / np.sqrt(96)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_descriptors_equal_the_numpy_reference_at_any_size(
    height: int, width: int, seed: int
) -> None:
    frames = random_frames(2, height, width, seed)
    frames[1] //= 32  # a dark frame, whose edges are near the noise
    truth = np.stack([describe_by_numpy(frame) for frame in frames])
    np.testing.assert_allclose(describe(frames), truth, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 9)])
def test_tiny_and_elongated_frames_have_finite_rows(shape: tuple[int, int]) -> None:
    assert np.isfinite(describe(random_frames(2, *shape))).all()


@given(st.lists(st.integers(0, 5), max_size=8))
def test_rows_do_not_depend_on_the_batches(sizes: list[int]) -> None:
    frames = random_frames(sum(sizes) + 1, 24, 43)
    batches = np.split(frames, np.cumsum(sizes))
    rows = np.concatenate(list(DescriptorEncoder().encode(map(batch_of, batches))))
    np.testing.assert_array_equal(rows, describe(frames))


def test_the_descriptor_is_an_encoder() -> None:
    encoder: Encoder = DescriptorEncoder()
    (rows,) = encoder.encode([batch_of(random_frames(3, 96, 128))])
    assert rows.shape == (3, encoder.dimension)
    assert rows.dtype == np.float32
    assert (encoder.name, encoder.short_side) == ("descriptor", 96)


def test_identical_frames_have_identical_rows() -> None:
    frame = random_frames(1, 96, 170)[0]
    rows = describe(np.stack([frame, random_frames(1, 96, 170, seed=1)[0], frame]))
    np.testing.assert_array_equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).any()


def test_frames_need_not_be_contiguous() -> None:
    frames = random_frames(4, 20, 60)
    view = frames[::2, :, ::3]
    np.testing.assert_array_equal(describe(view), describe(view.copy()))


@pytest.mark.parametrize("scene", range(5))
def test_disturbances_change_less_than_a_cut(scene: int) -> None:
    wide = draw_frame(scene, 0.3, 172, 98)
    frame = wide[1:-1, 1:-1]
    cut = squared_distance(frame, draw_frame(scene + 100, 0.3, 170, 96))
    noise = np.random.default_rng(0).normal(0, 3, frame.shape).round()
    disturbed = {
        "noise": np.clip(frame + noise, 0, 255).astype(np.uint8),
        "brighter": np.clip(frame * 1.05 + 4, 0, 255).astype(np.uint8),
        "shaken": wide[:-2, 2:],
    }
    for name, other in disturbed.items():
        assert squared_distance(frame, other) < cut / 5, name


def test_uniform_frames_differ_by_brightness_and_colour() -> None:
    plain = [np.full((96, 128, 3), colour) for colour in (0, 255, (255, 0, 0), (0, 0, 255))]
    rows = describe(np.stack(plain).astype(np.uint8))
    gaps = ((rows[:, None] - rows[None]) ** 2).sum(2)
    assert (gaps[~np.eye(4, dtype=bool)] > 0.1).all()


def test_cuts_of_a_drawn_video_are_found_exactly() -> None:
    lengths = [9, 30, 14, 51, 8, 22]
    frames = np.stack(
        [
            draw_frame(scene, number / 30, 128, 96)
            for scene, length in enumerate(lengths)
            for number in range(length)
        ]
    )
    boundaries = action100m.ward(describe(frames)).boundaries(len(lengths) - 1)
    assert boundaries.tolist() == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("shape", [(96, 170, 3), (2, 96, 170), (2, 96, 170, 4), (2, 0, 170, 3)])
def test_invalid_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        describe(np.zeros(shape, dtype=np.uint8))


def test_invalid_types_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        describe(np.zeros((1, 4, 4, 3), dtype=np.float32))  # type: ignore[arg-type]


def test_no_frames_give_no_rows() -> None:
    assert describe(np.zeros((0, 96, 170, 3), dtype=np.uint8)).shape == (
        0,
        DescriptorEncoder.dimension,
    )
