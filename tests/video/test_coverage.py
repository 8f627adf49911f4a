"""The share of a file that was decoded, on intact, cut and corrupt files."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
import pytest

from action100m.errors import VideoError
from action100m.video import DecodeReport, FrameSpec
from action100m.video.fragments import promised_end
from action100m.video.pyav import PyAVStream
from synthetic import with_flags, write_numbered, write_video

SPEC = FrameSpec(stride=4, side=32)
SECONDS = [1.0, 1.5, 1.0]
FRAMES = 105

# A cut MPEG-TS is a shorter MPEG-TS: nothing in it shows what is missing.
FORMATS = [
    ("a.mkv", "libx264"),
    ("a.mp4", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.webm", "libvpx"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
]


def report(path: Path) -> DecodeReport:
    stream = PyAVStream(path, SPEC)
    try:
        for _ in stream:
            pass
    finally:
        stream.close()
    return stream.report


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_coverage_of_a_truncated_file_is_its_share_of_frames(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = write_video(tmp_path / name, SECONDS, size=(160, 120), codec=codec)
    if path.suffix in {".mp4", ".mov"}:
        path = with_flags(path, path.with_stem("index_first"), "faststart")
    whole = report(path)
    assert (whole.frames, whole.coverage, whole.errors) == (FRAMES, 1.0, 0)
    assert whole.end == pytest.approx(sum(SECONDS), abs=0.01)
    data = path.read_bytes()
    for share in (0.8, 0.5):
        path.write_bytes(data[: int(len(data) * share)])
        cut = report(path)
        assert cut.frames < FRAMES
        assert cut.coverage == pytest.approx(cut.frames / FRAMES, abs=0.02)


@pytest.mark.parametrize("first", [0, 36_000])
def test_coverage_of_a_truncated_fragmented_file_uses_its_index(tmp_path: Path, first: int) -> None:
    times = [first * 1000 + round(number * 1000 / 30) for number in range(100)]
    options = {"g": "10", "bf": "2", "sc_threshold": "0"}
    plain = write_numbered(tmp_path / "plain.mkv", times, codec="libx264", options=options)
    path = with_flags(plain, tmp_path / "a.mp4", "dash+global_sidx+frag_keyframe")
    assert report(path).coverage == 1
    data = path.read_bytes()
    fragments = [found.start() - 4 for found in re.finditer(b"moof", data)]
    assert len(fragments) == 10
    for size in (fragments[1], fragments[5], fragments[5] + 1000, fragments[9]):
        path.write_bytes(data[:size])
        cut = report(path)
        assert 10 <= cut.frames <= 90
        assert cut.coverage == pytest.approx(cut.frames / 100, abs=0.03)


def test_a_corrupt_index_gives_no_expected_end(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", [1.0])
    path = with_flags(plain, tmp_path / "a.mp4", "dash+global_sidx+frag_keyframe")
    data = path.read_bytes()
    at = data.index(b"sidx")
    for start, length in ((at - 4, 4), (at + 12, 4), (at + 30, 6)):
        path.write_bytes(data[:start] + b"\0" * length + data[start + length :])
        assert promised_end(path) is None
    for size in range(4, 40):
        path.write_bytes(data[: at + size])
        assert promised_end(path) is None
    path.write_bytes(data[: at - 4] + b"\0\0\0\1sidx" + b"\xff" * 99)
    assert promised_end(path) is None
    path.write_bytes(data[:-1000])
    assert promised_end(path) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("first", [0, 36_000])
def test_coverage_of_a_truncated_file_counts_from_its_first_frame(
    tmp_path: Path, first: int
) -> None:
    times = [first * 1000 + round(number * 1000 / 30) for number in range(100)]
    path = write_numbered(tmp_path / "a.flv", times, codec="flv1", options={"g": "10"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    cut = report(path)
    assert cut.frames < 60
    assert cut.coverage == pytest.approx(cut.frames / 100, abs=0.03)


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.flv", "flv1")])
def test_intact_files_without_an_index_are_complete(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, SECONDS, size=(64, 48), codec=codec)
    assert report(path).coverage == 1
    assert report(path).frames == FRAMES


def test_corrupt_bytes_are_counted_and_decoding_continues(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", SECONDS, size=(128, 96))
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data) * 2 // 3, 97):
        data[place] ^= 0xFF
    path.write_bytes(data)
    found = report(path)
    assert found.errors > 0
    assert found.first_error
    assert "0x" not in found.first_error
    assert 0 < found.frames <= found.expected <= FRAMES


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4")]
)
def test_a_hole_in_the_middle_is_missing(tmp_path: Path, name: str, codec: str) -> None:
    """As in a download whose blocks came out of order, or on a bad disk."""
    path = write_video(tmp_path / name, SECONDS, size=(640, 360), codec=codec)
    data = bytearray(path.read_bytes())
    middle = slice(len(data) * 3 // 10, len(data) * 7 // 10)
    data[middle] = bytes(len(data[middle]))
    path.write_bytes(data)
    found = report(path)
    assert found.frames < 0.8 * FRAMES
    assert found.coverage == pytest.approx(found.frames / FRAMES, abs=0.03)


def test_a_picture_shown_for_long_is_not_a_hole(tmp_path: Path) -> None:
    times = [40 * number + 5000 * (number > 30) for number in range(60)]
    for name in ("a.mkv", "a.mp4"):
        path = write_numbered(tmp_path / name, times, codec="libx264")
        assert (report(path).coverage, report(path).errors) == (1, 0)


def test_damaged_sound_under_a_long_picture_is_not_a_hole(tmp_path: Path) -> None:
    times = [40 * number + 20_000 * (number > 60) for number in range(120)]
    silent = write_numbered(tmp_path / "a.mkv", times, codec="libx264", options={"bf": "0"})
    path = add_sound(silent, 25)
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        packets = [packet for packet in container.demux(sound) if packet.size]
        places = [(abs(packet.pts * sound.time_base - 12), packet.pos) for packet in packets]
    data = bytearray(path.read_bytes())
    at = min(places)[1]
    data[at : at + 40] = bytes(40)
    path.write_bytes(data)
    found = report(path)
    assert found.errors
    assert found.coverage == 1


def add_sound(path: Path, seconds: int) -> Path:
    """Add noise to a file without sound or B-frames."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (seconds * 50, 1, 960), np.int16)
    target = path.with_name(f"sound-{path.name}")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        video = source.streams.video[0]
        shown, sound = container.add_stream_from_template(video), container.add_stream("aac", 48000)
        packets = [packet for packet in source.demux(video) if packet.size]
        for packet in packets:
            packet.stream = shown
        for number, samples in enumerate(noise):
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 48000, number * 960
            packets += sound.encode(frame)
        packets.sort(key=lambda packet: packet.pts * packet.time_base)
        for packet in packets:
            container.mux(packet)
    return target


def test_an_mp4_without_its_index_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", SECONDS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(VideoError, match="before or inside its index"):
        report(path)
