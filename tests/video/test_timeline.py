"""Numbers and times from packets alone equal those of the decoded frames, or are refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from action100m.errors import VideoError
from action100m.video import DecodeReport, FrameSpec, VideoInfo
from action100m.video.log import FFmpegLog
from action100m.video.opening import open_video
from action100m.video.pyav import PyAVStream
from action100m.video.timeline import Timeline, read_timeline
from synthetic import write_numbered, write_video

ALL = FrameSpec(stride=1, side=16)
STEADY = [round(number * 1000 / 30) for number in range(90)]


def timeline_of(path: Path, info: VideoInfo, **options: bool) -> Timeline:
    with FFmpegLog() as log:
        container, video = open_video(path, log)
        with container:
            return read_timeline(container, video, log, info, lambda: None, **options)


def both(path: Path) -> tuple[Timeline, list[float], DecodeReport]:
    """A file's timeline, and PyAV's times and report."""
    stream = PyAVStream(path, ALL)
    times = [time for batch in stream for time in batch.times.tolist()]
    stream.close()
    return timeline_of(path, stream.info), times, stream.report


def assert_same(path: Path) -> None:
    timeline, times, report = both(path)
    assert timeline.times.tolist() == times
    assert timeline.report == report


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_intact_files(tmp_path: Path, name: str, codec: str) -> None:
    assert_same(write_numbered(tmp_path / name, STEADY, codec=codec, options={"bf": "3"}))


def test_variable_frame_rate_with_reordered_frames(tmp_path: Path) -> None:
    times = [0, *np.cumsum(np.random.default_rng(1).integers(5, 300, 60)).tolist()]
    assert_same(write_numbered(tmp_path / "a.mp4", times, codec="libx264", options={"bf": "3"}))


@pytest.mark.parametrize("share", [0.9, 0.7, 0.4])
def test_a_truncated_file_without_reordered_frames(tmp_path: Path, share: float) -> None:
    path = write_video(tmp_path / "a.webm", [1.0, 1.0], codec="libvpx-vp9")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_same(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_hidden_pictures_are_refused_where_a_decoder_would_show_them(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    source = ["-f", "lavfi", "-i", "testsrc2=s=128x72:r=30:d=3", "-pix_fmt", "yuv420p"]
    options = ["-c:v", "libvpx-vp9", "-b:v", "100k", "-cpu-used", "5", "-auto-alt-ref", "1"]
    for number in ("1", "2"):  # libvpx hides pictures in its second pass only
        passes = ["-pass", number, "-passlogfile", tmp_path / "log"]
        target = ["-f", "null", "-"] if number == "1" else [path]
        subprocess.run(["ffmpeg", "-v", "error", *source, *options, *passes, *target], check=True)
    assert_same(path)
    stream = PyAVStream(path, ALL)
    stream.close()
    with pytest.raises(VideoError, match="or hold a hidden one"):
        timeline_of(path, stream.info, one_picture_per_packet=True)
    shown = write_numbered(tmp_path / "b.webm", STEADY)
    stream = PyAVStream(shown, ALL)
    stream.close()
    assert len(timeline_of(shown, stream.info, one_picture_per_packet=True).times) == len(STEADY)


def test_only_vp9_packets_are_searched_for_hidden_pictures(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [1.0, 1.5])
    stream = PyAVStream(path, ALL)
    stream.close()
    assert len(timeline_of(path, stream.info, one_picture_per_packet=True).times) == 75


def test_the_real_clips(shared: Path) -> None:
    clips = [path for path in (shared / "videos").rglob("*") if path.suffix in {".mp4", ".mkv"}]
    assert clips
    for path in [*clips, *(shared / "damaged").glob("m_*.m[pk][4v]")]:
        try:
            stream = PyAVStream(path, ALL)
        except VideoError:
            continue
        stream.close()
        timeline, times, report = both(path)
        if path.name == "m_bitrot.mp4":  # only a decoder shows which packets are damaged
            assert (len(timeline.times), timeline.report.frames) == (120, report.expected)
        else:
            assert timeline.times.tolist() == times, path.name
            assert timeline.report == report, path.name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("m_raw.h264", "timestamps are missing"),
        ("m_theora.ogv", "packets are empty"),
        ("m_ts_wrap.ts", "before time 0"),
        ("m_ts_reset.ts", "marked as damaged"),
    ],
)
def test_files_with_an_uncertain_timeline_are_refused(shared: Path, name: str, reason: str) -> None:
    with pytest.raises(VideoError, match=reason):
        both(shared / "damaged" / name)
