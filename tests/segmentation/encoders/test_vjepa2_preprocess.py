from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)

from PIL import Image  # noqa: E402

from action100m.segmentation.encoders.vjepa2.architecture import Architecture  # noqa: E402
from action100m.segmentation.encoders.vjepa2.preprocess import preprocess  # noqa: E402
from synthetic import draw_frame  # noqa: E402

Frames = NDArray[np.uint8]
MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])
LEVEL = 1 / 255 / 0.224  # one 8-bit level, normalised


def noisy_frames(height: int, width: int) -> Frames:
    noise = np.random.default_rng(0).normal(0, 20, (2, height, width, 3))
    drawn = np.stack([draw_frame(scene, 0.2, width, height) for scene in range(2)])
    return np.clip(drawn + noise, 0, 255).astype(np.uint8)


def sizes(crop: int) -> Architecture:
    return Architecture.of({"model_type": "vjepa2", "crop_size": crop})


def prepared(frames: Frames, crop: int) -> NDArray[np.float32]:
    return preprocess(frames, sizes(crop), torch.float32, torch.device("cpu")).numpy()


def by_transformers(frames: Frames, crop: int) -> NDArray[np.float32]:
    pytest.importorskip("torchvision", exc_type=ImportError)
    from transformers import VJEPA2VideoProcessor  # noqa: PLC0415 - needs torchvision

    processor = VJEPA2VideoProcessor(crop_size={"height": crop, "width": crop})
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return processor(video, return_tensors="pt")["pixel_values_videos"][0].numpy()


def by_pillow(frames: Frames, crop: int) -> NDArray[np.float64]:
    side = int(crop * 256 / 224)
    results = []
    for frame in frames:
        picture = Image.fromarray(frame)
        scale = side / min(picture.size)
        size = tuple(int(edge * scale + 1e-9) for edge in picture.size)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
        picture = picture.crop((left, top, left + crop, top + crop))
        results.append(((np.asarray(picture) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1))
    return np.stack(results)


@pytest.mark.parametrize(("crop", "side"), [(384, 438), (256, 292), (64, 73), (224, 256)])
def test_the_resized_side_matches_the_training(crop: int, side: int) -> None:
    assert sizes(crop).short_side == side


@pytest.mark.parametrize("size", [(73, 73), (73, 130), (129, 73)])
@pytest.mark.parametrize("truth", [by_transformers, by_pillow])
def test_frames_of_the_target_size_are_not_resampled(truth: object, size: tuple[int, int]) -> None:
    frames = noisy_frames(*size)
    np.testing.assert_allclose(prepared(frames, 64), truth(frames, 64), atol=1e-5)


def check_within_one_level(difference: NDArray[np.float64]) -> None:
    assert difference.max() < 1.01 * LEVEL
    assert difference.mean() < 0.3 * LEVEL


@given(st.integers(30, 250), st.integers(30, 250))
@settings(max_examples=30, deadline=None)
def test_frames_of_any_size_are_within_one_level_of_pillow(height: int, width: int) -> None:
    frames = noisy_frames(height, width)
    check_within_one_level(np.abs(prepared(frames, 64) - by_pillow(frames, 64)))


@pytest.mark.parametrize("size", [(432, 768), (240, 101), (72, 128), (40, 40), (500, 501)])
def test_other_frames_are_within_one_level_of_transformers(size: tuple[int, int]) -> None:
    frames = noisy_frames(*size)
    check_within_one_level(np.abs(prepared(frames, 64) - by_transformers(frames, 64)))


@pytest.mark.parametrize("crop", [384, 256])
def test_real_frames_are_prepared_like_transformers(shared: Path, crop: int) -> None:
    path = shared / "videos" / "intel_one-by-one-person-detection.mp4"
    with av.open(str(path)) as container:
        decoded = [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(container.decode(video=0), range(60), strict=False)
        ]
    frames = np.stack(decoded[::30])
    difference = np.abs(prepared(frames, crop) - by_transformers(frames, crop))
    assert difference.max() < 1.01 * LEVEL
    assert difference.mean() < 0.1 * LEVEL


def test_bfloat16_is_rounded_once() -> None:
    frames = noisy_frames(73, 90)
    half = preprocess(frames, sizes(64), torch.bfloat16, torch.device("cpu"))
    assert torch.equal(half, torch.from_numpy(prepared(frames, 64)).bfloat16())
