"""Clips have the colours of their video, whatever its matrix and range."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.video import Clip, Decoder, Obtained, Preview

pytestmark = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
BARS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200), (200, 40, 200)]
BARS += [(5, 5, 5), (250, 250, 250)]  # lost if full range is read as limited
WIDTH, HEIGHT = 256, 96
FINE = "flags=accurate_rnd+full_chroma_int+full_chroma_inp"


def write_bars(path: Path, *options: str) -> Path:
    """Ten pictures of the bars, encoded by ffmpeg with some options."""
    picture = np.repeat(np.array(BARS, np.uint8), WIDTH // len(BARS), 0)
    raw = np.broadcast_to(picture, (10, HEIGHT, WIDTH, 3)).tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", "25", "-i", "-", *options, str(path)]
    subprocess.run(command, input=raw, check=True)
    return path


def shown_bars(path: Path) -> NDArray[np.int64]:
    """(8, 3) RGB of the bars as ffmpeg shows them."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "1", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    picture = np.frombuffer(raw, np.uint8).reshape(HEIGHT, WIDTH, 3)
    bar = WIDTH // len(BARS)
    return picture[HEIGHT // 2, bar // 2 :: bar].astype(int)


def tags(path: Path) -> tuple[int, int]:
    """Colour space and range of the first frame."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.colorspace, frame.color_range


@pytest.mark.parametrize(("matrix", "number"), [("bt709", 1), ("smpte170m", 6), ("bt2020nc", 9)])
@pytest.mark.parametrize("size", ["setsar=1", "setsar=16/9"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("reach", ["tv", "pc"])
def test_yuv(matrix: str, number: int, size: str, pixels: str, reach: str, tmp_path: Path) -> None:
    made = f"scale=out_color_matrix={matrix.removesuffix('nc')}:out_range={reach}:{FINE},{size}"
    coded = ["-vf", made, "-pix_fmt", pixels, "-c:v", "libx264", "-crf", "5"]
    tagged = ["-colorspace", matrix, "-color_range", reach]
    video = write_bars(tmp_path / "a.mp4", *coded, *tagged)
    assert tags(video) == (number, 2 if reach == "pc" else 1)
    assert_same(video, number)


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "bgr0"), ("libx264rgb", "rgb24")])
def test_rgb(codec: str, pixels: str, tmp_path: Path) -> None:
    video = write_bars(tmp_path / "a.mkv", "-c:v", codec, "-pix_fmt", pixels)
    assert tags(video)[0] == 0
    assert_same(video, 1)


def assert_same(video: Path, matrix: int) -> None:
    """A clip and a preview of the video look the same and have limited range."""
    targets = video.with_name("clip.mp4"), video.with_name("preview.mp4")
    clips = [Clip(0.0, 0.4, targets[0]), Clip(0.0, 0.4, targets[1], Preview(HEIGHT * 2, ""))]
    with Decoder() as decoder:
        outcomes = decoder.cut(video, clips)
    assert np.abs(shown_bars(video) - BARS).max() < 5
    for target, outcome in zip(targets, outcomes, strict=True):
        assert isinstance(outcome, Obtained)
        assert tags(target) == (matrix, 1)
        assert np.abs(shown_bars(target) - BARS).max() < 7
