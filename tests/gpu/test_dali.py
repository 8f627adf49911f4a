"""DALI on the GPU's video engine against PyAV: H.264, HEVC, VP9. AV1 is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV, the other decoder, is not installed")

from action100m.errors import ConfigError, VideoError  # noqa: E402
from action100m.video import Decoder, FrameBatch, FrameSpec, FrameStream, require_backend  # noqa: E402
from action100m.video.dali import DaliStream  # noqa: E402
from action100m.video.pyav import PyAVStream  # noqa: E402
from synthetic import (  # noqa: E402
    ORIENTATIONS,
    read_numbers,
    with_matrix,
    write_numbered,
    write_tagged,
    write_video,
)

pytestmark = pytest.mark.gpu

TOLERANCE = 2.5  # of 255, mean over a picture: what DaliStream promises
SPEC = FrameSpec(stride=4, side=96)
SIZE = (320, 180)  # the smallest sides that NVDEC accepts are between 48 and 144
STEADY = [round(number * 1000 / 30) for number in range(240)]


@pytest.fixture(scope="module", autouse=True)
def _gpu() -> None:
    try:
        require_backend("dali-gpu")
    except ConfigError as error:
        pytest.skip(str(error))


def read(stream: FrameStream) -> FrameBatch:
    try:
        batches = list(stream)
    finally:
        stream.close()
    return FrameBatch(
        np.concatenate([batch.index for batch in batches]),
        np.concatenate([batch.times for batch in batches]),
        np.concatenate([batch.pixels for batch in batches]),
    )


def assert_same(ours: FrameBatch, theirs: FrameBatch) -> None:
    assert (ours.index == theirs.index).all()
    assert (ours.times == theirs.times).all()
    assert ours.pixels.shape == theirs.pixels.shape
    difference = np.abs(ours.pixels.astype(int) - theirs.pixels).mean(axis=(1, 2, 3))
    assert difference.max() < TOLERANCE


def check(path: Path, spec: FrameSpec = SPEC) -> FrameBatch:
    ours = read(DaliStream(path, spec, device="gpu"))
    assert_same(ours, read(PyAVStream(path, spec)))
    return ours


CODECS = ["libx264", "libx265", "libvpx-vp9"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_numbers_times_and_pixels_equal_those_of_pyav(
    tmp_path: Path, codec: str, name: str
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV comes without {codec}")
    options = {"bf": "3", "g": "48"} if codec == "libx264" else {}
    path = write_numbered(tmp_path / name, STEADY, size=SIZE, codec=codec, options=options)
    ours = check(path)
    assert read_numbers(ours.pixels) == ours.index.tolist() == list(range(0, 240, 4))


def test_av1_is_refused(tmp_path: Path) -> None:
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("PyAV comes without libsvtav1")
    path = write_numbered(tmp_path / "a.mp4", STEADY, size=SIZE, codec="libsvtav1")
    with pytest.raises(VideoError, match="not av1"):
        DaliStream(path, SPEC, device="gpu")


@pytest.mark.parametrize("stride", [1, 7, 13, 1000])
def test_any_stride(tmp_path: Path, stride: int) -> None:
    path = write_numbered(tmp_path / "a.mp4", STEADY, size=SIZE, codec="libx264")
    ours = check(path, FrameSpec(stride, 96))
    assert read_numbers(ours.pixels) == ours.index.tolist() == list(range(0, 240, stride))


def test_variable_frame_rate_with_reordered_frames(tmp_path: Path) -> None:
    times = [0, *np.cumsum(np.random.default_rng(1).integers(5, 300, 120)).tolist()]
    path = write_numbered(
        tmp_path / "a.mp4", times, size=SIZE, codec="libx264", options={"bf": "3"}
    )
    ours = check(path)
    assert read_numbers(ours.pixels) == ours.index.tolist()


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", [1.0], size=SIZE)
    check(with_matrix(path, tmp_path / "turned.mp4", matrix))


@pytest.mark.parametrize("colorspace", [1, 6, 9])
@pytest.mark.parametrize("color_range", [1, 2])
def test_colours(tmp_path: Path, colorspace: int, color_range: int) -> None:
    path = tmp_path / "a.mp4"
    tags = {"colorspace": colorspace, "color_range": color_range}
    check(write_tagged(path, size=SIZE, codec="libx264", **tags), FrameSpec(1, 180))


def test_the_child_survives_damaged_files(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [1.0, 1.5, 1.0], size=SIZE)
    data, truth = path.read_bytes(), read(PyAVStream(path, SPEC))
    generator = np.random.default_rng(7)
    with Decoder(backend="dali-gpu") as decoder:
        for number in range(12):
            damaged = bytearray(data)
            if number % 2:
                del damaged[int(len(data) * generator.uniform(0.02, 1)) :]
            else:
                for place in generator.integers(100, len(data), 1 + number):
                    damaged[place] ^= 1 << int(generator.integers(8))
            broken = tmp_path / f"{number}.mkv"
            broken.write_bytes(damaged)
            try:
                read(decoder.open(broken, SPEC))
            except VideoError:
                continue
        assert_same(read(decoder.open(path, SPEC)), truth)


def test_the_real_clips(shared: Path) -> None:
    clips = sorted(path for path in (shared / "videos").rglob("*.mp4"))
    with Decoder(backend="dali-gpu") as decoder:
        for clip in clips:
            try:
                stream = decoder.open(clip, SPEC)
            except VideoError as error:
                assert "video.decoder = pyav" in str(error)  # noqa: PT017
                continue
            assert_same(read(stream), read(PyAVStream(clip, SPEC)))
