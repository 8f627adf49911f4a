"""DALI's CPU decoder against PyAV: the same logic as on the GPU, on VP9."""

from __future__ import annotations

import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video import Decoder, DecodeReport, FrameSpec, FrameStream, VideoInfo
from action100m.video import decoder as decoder_module
from action100m.video.dali import DaliStream
from action100m.video.pyav import PyAVStream
from synthetic import (
    ORIENTATIONS,
    read_numbers,
    with_matrix,
    write_numbered,
    write_tagged,
    write_video,
)

pytest.importorskip("nvidia.dali", exc_type=ImportError)

TOLERANCE = 2.5  # of 255, mean over a picture: what DaliStream promises
SPEC = FrameSpec(stride=4, side=48)
STEADY = [round(number * 1000 / 30) for number in range(150)]


class Read:
    """Everything that a stream returns."""

    def __init__(self, stream: FrameStream) -> None:
        try:
            batches = list(stream)
        finally:
            stream.close()
        self.index: NDArray[np.int64] = np.concatenate([batch.index for batch in batches])
        self.times: NDArray[np.float64] = np.concatenate([batch.times for batch in batches])
        self.pixels: NDArray[np.uint8] = np.concatenate([batch.pixels for batch in batches])
        self.info: VideoInfo = stream.info
        self.report: DecodeReport = stream.report


def both(path: Path, spec: FrameSpec = SPEC) -> tuple[Read, Read]:
    return Read(DaliStream(path, spec, device="cpu")), Read(PyAVStream(path, spec))


def assert_same(ours: Read, theirs: Read, tolerance: float = TOLERANCE) -> None:
    assert (ours.index == theirs.index).all()
    assert (ours.times == theirs.times).all()
    assert (ours.info, ours.report) == (theirs.info, theirs.report)
    assert ours.pixels.shape == theirs.pixels.shape
    assert difference(ours.pixels, theirs.pixels).max() < tolerance


def difference(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.abs(ours.astype(int) - theirs).mean(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a b: %03d.webm"
    return write_video(path, [1.0, 1.5, 1.0], size=(160, 90), codec="libvpx-vp9")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("clip") / "n.webm", STEADY)


@pytest.mark.parametrize("stride", [1, 4, 7, 13, 24, 1000])
def test_numbers_times_and_pixels_equal_those_of_pyav(numbered: Path, stride: int) -> None:
    ours, theirs = both(numbered, FrameSpec(stride, 48))
    assert_same(ours, theirs)
    assert read_numbers(ours.pixels) == ours.index.tolist() == list(range(0, 150, stride))


@pytest.mark.parametrize("short_side", [24, 48, 90, 135])
def test_any_size(clip: Path, short_side: int) -> None:
    assert_same(*both(clip, FrameSpec(9, short_side)))


def test_variable_frame_rate(tmp_path: Path) -> None:
    gaps = np.random.default_rng(0).integers(5, 400, 99)
    times = [0, *np.cumsum(gaps).tolist()]
    ours, theirs = both(write_numbered(tmp_path / "a.webm", times), FrameSpec(3, 48))
    assert_same(ours, theirs)
    assert read_numbers(ours.pixels) == ours.index.tolist()
    assert ours.times == pytest.approx(np.array(times[::3]) / 1000, abs=1e-9)


def test_time_begins_with_the_first_frame(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.webm", [5000 + time for time in STEADY[:40]])
    ours, theirs = both(path)
    assert_same(ours, theirs)
    assert ours.times[0] == 0


def test_batches_contain_each_frame_exactly_once(clip: Path) -> None:
    stream = DaliStream(clip, FrameSpec(1, 48), device="cpu")
    with pytest.raises(RuntimeError, match="complete once"):
        _ = stream.report
    sizes = [len(batch.index) for batch in stream]
    assert sum(sizes) == 105
    assert max(sizes) <= 32
    assert list(stream) == []
    stream.close()


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", [0.5], size=(160, 90), codec="libvpx-vp9")
    assert_same(*both(with_matrix(path, tmp_path / "turned.mp4", matrix)))


@pytest.mark.parametrize("aspect", ["2/1", "1/2", "4/3"])
def test_sample_aspect_ratio(tmp_path: Path, aspect: str) -> None:
    path = write_tagged(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(aspect))
    ours, theirs = both(path)
    assert ours.info.width == round(160 * Fraction(aspect))
    assert_same(ours, theirs)


@pytest.mark.parametrize("colorspace", [1, 5, 6, 7, 9])
def test_colour_spaces(tmp_path: Path, colorspace: int) -> None:
    path = write_tagged(tmp_path / "a.mkv", colorspace=colorspace)
    assert_same(*both(path, FrameSpec(1, 90)))


def refusals(folder: Path) -> list[tuple[Path, str]]:
    backwards = folder / "odd.webm"
    return [
        (write_video(folder / "a.mkv", [0.2]), "used for vp9 only, not h264"),
        (write_video(folder / "a.avi", [0.2], codec="mpeg4"), "MP4, MOV, Matroska and WebM only"),
        (write_numbered(backwards, STEADY[:5], size=(129, 72)), "odd size such as 129 x 72"),
        (write_tagged(folder / "full.mkv", color_range=2), "full-range"),
    ]


def test_files_that_dali_decodes_wrongly_are_refused(tmp_path: Path) -> None:
    for path, reason in refusals(tmp_path):
        with pytest.raises(VideoError, match=reason) as caught:
            DaliStream(path, SPEC, device="cpu")
        assert "video.decoder = pyav" in str(caught.value)
        Read(PyAVStream(path, SPEC))


def test_the_child_gives_the_same_frames_as_this_process(clip: Path) -> None:
    truth = Read(DaliStream(clip, SPEC, device="cpu"))
    with Decoder(backend="dali-cpu") as decoder:
        for _ in range(2):
            found = Read(decoder.open(clip, SPEC))
            assert_same(found, truth, 0.001)


def test_a_killed_child_is_an_error_and_is_replaced(clip: Path) -> None:
    with Decoder(backend="dali-cpu") as decoder:
        stream = decoder.open(clip, FrameSpec(1, 480))
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGKILL)
        with pytest.raises(VideoError, match="SIGKILL") as caught:
            list(stream)
        assert caught.value.transient
        Read(decoder.open(clip, SPEC))


def test_a_child_is_replaced_before_it_grows(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoder_module._FILES_PER_CHILD, "pyav", 2)
    with Decoder() as decoder:
        pids = [(Read(decoder.open(clip, SPEC)), decoder.pid)[1] for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    for count in (20, 60):
        path.unlink(missing_ok=True)
        ours, theirs = both(write_numbered(path, STEADY[:count]))
        assert_same(ours, theirs)


def check_damaged(decoder: Decoder, path: Path) -> bool:
    """Return whether a damaged file decodes, and check that it decodes as with PyAV."""
    try:
        ours = Read(decoder.open(path, SPEC))
    except VideoError:
        return False
    theirs = Read(PyAVStream(path, SPEC))
    assert (ours.index == theirs.index).all()
    assert ours.times == pytest.approx(theirs.times, abs=1e-9)
    assert ours.report.coverage == pytest.approx(theirs.report.coverage, abs=0.02)
    assert difference(ours.pixels, theirs.pixels).max() < TOLERANCE
    return True


def test_damaged_files_fail_alone(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    whole = Read(PyAVStream(clip, SPEC))
    generator = np.random.default_rng(7)
    decoded = 0
    with Decoder(backend="dali-cpu") as decoder:
        for number in range(16):
            damaged = bytearray(data)
            if number % 2:
                del damaged[int(len(data) * generator.uniform(0.02, 1)) :]
            else:
                for place in generator.integers(100, len(data), 1 + number // 2):
                    damaged[place] ^= 1 << int(generator.integers(8))
            path = tmp_path / f"{number}.webm"
            path.write_bytes(damaged)
            decoded += check_damaged(decoder, path)
        assert_same(Read(decoder.open(clip, SPEC)), whole)
    assert decoded > 4


def test_the_damaged_clips(shared: Path) -> None:
    with Decoder(backend="dali-cpu") as decoder:
        for path in sorted((shared / "damaged").glob("m_vp9*.webm")):
            assert_same(Read(decoder.open(path, SPEC)), Read(PyAVStream(path, SPEC)))
        for path in sorted((shared / "damaged").iterdir()):
            if path.suffix in {".mp4", ".mkv", ".avi"}:
                with pytest.raises(VideoError):
                    decoder.open(path, SPEC)
