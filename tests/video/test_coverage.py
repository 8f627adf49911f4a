"""The share of a file that was decoded, on intact, cut and rotten files."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from action100m.video import DecodeReport, FrameSpec, VideoError
from action100m.video.pyav import PyAVStream
from synthetic import write_video

SPEC = FrameSpec(stride=4, side=32)
SECONDS = [1.0, 1.5, 1.0]
FRAMES = 105

# A cut MPEG-TS is a shorter MPEG-TS: nothing in it tells what is missing.
FORMATS = [
    ("a.mkv", "libx264"),
    ("a.mp4", "libx264"),
    ("a.mov", "mpeg4"),
    ("a.webm", "libvpx"),
    ("a.webm", "libvpx-vp9"),
    ("a.avi", "mpeg4"),
]


def report(path: Path, threads: int = 2) -> DecodeReport:
    stream = PyAVStream(path, SPEC, threads=threads)
    try:
        for _ in stream:
            pass
    finally:
        stream.close()
    return stream.report


def index_first(path: Path) -> None:
    """Rewrite an MP4 with its index before the pictures."""
    content = path.with_stem("slow")
    path.rename(content)
    with (
        av.open(str(content)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)


@pytest.mark.parametrize(("name", "codec"), FORMATS)
def test_a_cut_file_is_covered_as_far_as_it_goes(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, SECONDS, size=(160, 120), codec=codec)
    if path.suffix in {".mp4", ".mov"}:
        index_first(path)
    whole = report(path)
    assert (whole.frames, whole.coverage, whole.errors) == (FRAMES, 1.0, 0)
    assert whole.end == pytest.approx(sum(SECONDS), abs=0.01)
    data = path.read_bytes()
    for share in (0.8, 0.5):
        path.write_bytes(data[: int(len(data) * share)])
        cut = report(path)
        assert cut.frames < FRAMES
        assert cut.coverage == pytest.approx(cut.frames / FRAMES, abs=0.02)


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.flv", "flv1")])
def test_intact_files_without_an_index_are_whole(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, SECONDS, size=(64, 48), codec=codec)
    assert report(path).coverage == 1
    assert report(path).frames == FRAMES


def test_rotten_bytes_are_counted_and_decoding_goes_on(tmp_path: Path) -> None:
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


def test_an_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", SECONDS)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(VideoError, match="before or inside its index"):
        report(path)
