"""Each odd or broken file is decoded as ffmpeg decodes it, or fails with a clear reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from action100m.errors import VideoError
from action100m.video import Decoder, FrameSpec
from synthetic import write_video

REASONS = {
    "m_audio_only.mp4": "No video stream: only audio",
    "m_html_named.mp4": "Not a video file: it is text",
    "m_jpeg_named.mp4": "A still picture, not a video",
    "m_png_named.avi": "A still picture, not a video",
    "m_random_named.mkv": "Not a video file",
    "m_trunc_40bytes.mp4": "before or inside its index",
    "m_trunc_nomoov.mp4": "before or inside its index",
    "m_zero.mp4": "The file is empty",
}
COVERAGE = {"m_trunc_faststart.mp4": 0.5, "m_bitrot.mp4": 118 / 120, "m_mjpeg_noindex.avi": 43 / 60}
# Two of 120 packets of m_theora.ogv are empty: they repeat the frame before.


def test_every_damaged_file(shared: Path) -> None:
    entries = json.loads((shared / "damaged/MANIFEST.json").read_text())
    with Decoder() as decoder:
        for entry in entries:
            name = entry["file"]
            path = shared / "damaged" / name
            if name in REASONS:
                with pytest.raises(VideoError, match=REASONS[name]) as caught:
                    decoder.open(path, FrameSpec(1, 48))
                assert not caught.value.transient
                continue
            stream = decoder.open(path, FrameSpec(1, 48))
            times = np.concatenate([batch.times for batch in stream])
            report = stream.report
            assert report.frames == len(times) == entry["frames"], name
            assert times[0] == 0, name
            assert times[-1] == pytest.approx(entry["last_s"], abs=1e-3), name
            assert (np.diff(times) > 0).all(), name
            assert report.end > times[-1], name
            assert report.coverage == pytest.approx(COVERAGE.get(name, 1.0), abs=0.01), name


def test_the_real_clips(shared: Path) -> None:
    clips = sorted(
        path for path in (shared / "videos").rglob("*") if path.suffix in {".mp4", ".mkv", ".avi"}
    )
    assert clips
    with Decoder() as decoder:
        for clip in clips:
            stream = decoder.open(clip, FrameSpec(8, 48))
            frames = sum(len(batch.index) for batch in stream)
            assert frames == -(-stream.report.frames // 8)
            assert stream.report.coverage > 0.98, clip.name


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_damage_gives_the_same_pictures_every_time(codec: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [2.0, 2.0], size=(640, 360), codec=codec)
    data = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    for place in generator.integers(5000, len(data), 60):
        data[place] ^= generator.integers(1, 256)
    path.write_bytes(data)
    seen = set()
    with Decoder() as decoder:
        for _ in range(5):
            stream = decoder.open(path, FrameSpec(1, 96))
            pixels = np.concatenate([batch.pixels for batch in stream])
            seen.add((pixels.tobytes(), stream.report))
    assert len(seen) == 1
