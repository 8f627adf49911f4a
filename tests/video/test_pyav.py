from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video import DecodeReport, FrameSpec, VideoInfo
from action100m.video.pyav import PyAVStream
from synthetic import ORIENTATIONS, draw_frame, with_matrix, write_numbered, write_video

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not installed"
)
ALL = FrameSpec(stride=1, side=48)


def read(
    path: Path, spec: FrameSpec = ALL
) -> tuple[VideoInfo, NDArray[np.float64], NDArray[np.uint8], DecodeReport]:
    stream = PyAVStream(path, spec)
    try:
        batches = list(stream)
    finally:
        stream.close()
    index = np.concatenate([batch.index for batch in batches])
    assert (index == np.arange(len(index)) * spec.stride).all()
    times = np.concatenate([batch.times for batch in batches])
    pixels = np.concatenate([batch.pixels for batch in batches])
    return stream.info, times, pixels, stream.report


def ffmpeg_pixels(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    """What ffmpeg shows: upright, stretched to this size."""
    filters = f"scale={width}:{height}:flags=area+accurate_rnd,format=rgb24"
    command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-vf", filters]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def ffprobe_times(path: Path) -> NDArray[np.float64]:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    command += ["-show_entries", "frame=best_effort_timestamp_time", f"file:{path}"]
    answer = subprocess.run(command, check=True, capture_output=True).stdout
    frames = json.loads(answer)["frames"]
    times = np.array([float(frame["best_effort_timestamp_time"]) for frame in frames])
    return times - times[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return write_video(folder / "clip.mp4", [1.0, 1.5], size=(160, 90))


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libvpx-vp9"])
def test_pixels_and_times_equal_those_of_ffmpeg(tmp_path: Path, codec: str) -> None:
    path = write_video(tmp_path / "a.mkv", [0.5, 0.5], size=(160, 90), codec=codec)
    _, times, pixels, report = read(path)
    theirs = ffmpeg_pixels(path, pixels.shape[2], pixels.shape[1]).astype(int)
    assert theirs.shape == pixels.shape == (30, 48, 85, 3)
    assert np.abs(pixels - theirs).mean() < 1
    assert np.abs(times - ffprobe_times(path)).max() < 1e-6
    assert report.frames == report.expected == 30
    assert report.end == pytest.approx(1.0, abs=2e-3)


def test_decoded_frames_match_the_drawn_ones(clip: Path) -> None:
    pixels = read(clip, FrameSpec(stride=1, side=90))[2]
    assert np.abs(pixels[0].astype(int) - draw_frame(0, 0, 160, 90)).mean() < 4


def test_stride_affects_only_which_frames_are_read(clip: Path) -> None:
    info, times, pixels, report = read(clip)
    some = read(clip, FrameSpec(stride=4, side=48))
    assert (some[1] == times[::4]).all()
    assert (some[2] == pixels[::4]).all()
    assert (some[0], some[3]) == (info, report)
    assert (info.width, info.height, info.frame_rate, info.codec) == (160, 90, 30.0, "h264")


def test_batches_contain_each_frame_once(clip: Path) -> None:
    stream = PyAVStream(clip, ALL)
    sizes = [len(batch.index) for batch in stream]
    assert sum(sizes) == 75
    assert max(sizes) == sizes[0] < 75
    assert list(stream) == []
    stream.close()


def test_every_packet_reports_progress(clip: Path) -> None:
    signs: list[int] = []
    stream = PyAVStream(clip, FrameSpec(stride=1000, side=48), on_progress=lambda: signs.append(0))
    assert len(list(stream)) == 1
    stream.close()
    assert len(signs) >= 75


def test_the_report_is_available_only_at_the_end(clip: Path) -> None:
    stream = PyAVStream(clip, ALL)
    with pytest.raises(RuntimeError, match="complete once"):
        _ = stream.report
    stream.close()


@needs_ffmpeg
@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations(
    clip: Path, tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = with_matrix(clip, tmp_path / "turned.mp4", matrix)
    info, _, pixels, _ = read(path)
    _, height, width, _ = pixels.shape
    assert (width > height) == (info.width > info.height) == bool(matrix[0])
    theirs = ffmpeg_pixels(path, width, height).astype(int)
    assert np.abs(pixels - theirs).mean() < 3  # any other orientation: above 8


@pytest.mark.parametrize(
    ("aspect", "shape", "display"),
    [("2/1", (48, 171), (320, 90)), ("1/2", (54, 48), (80, 90)), ("1/1", (48, 85), (160, 90))],
)
def test_sample_aspect_ratio(
    tmp_path: Path, aspect: str, shape: tuple[int, int], display: tuple[int, int]
) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        frame = av.VideoFrame.from_ndarray(draw_frame(0, 0, 160, 90), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info, _, pixels, _ = read(path)
    assert pixels.shape[1:3] == shape
    assert (info.width, info.height) == display


def test_the_default_stream_is_used_and_never_a_cover(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream, side in zip(streams, (64, 32), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            stream.disposition = int(side == 32)  # the lowest bit: default
        for stream, side in zip(streams, (64, 32), strict=True):
            picture = np.full((side, side, 3), 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    assert read(path)[0].width == 32


@needs_ffmpeg
def test_an_audio_file_with_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-f", "lavfi"]
    command += [
        "-i",
        "testsrc=s=64x64:d=1:r=1",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "png",
        "-c:a",
        "aac",
    ]
    command += ["-disposition:v", "attached_pic", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(VideoError, match="No video stream: only audio and a cover picture"):
        PyAVStream(path, ALL)


def test_a_change_of_size_keeps_the_first_size(tmp_path: Path) -> None:
    path = tmp_path / "joined.ts"
    parts = [
        write_video(tmp_path / f"{width}.ts", [0.5], size=(width, 90)).read_bytes()
        for width in (160, 240)
    ]
    path.write_bytes(b"".join(parts))
    info, times, pixels, report = read(path)
    assert pixels.shape == (30, 48, 85, 3)
    assert info.width == 160
    assert report.repaired_times > 0
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("hours", [1, 10])
def test_a_leap_of_timestamps_is_repaired_in_joined_files(hours: int, tmp_path: Path) -> None:
    times = [number * 40 + (number >= 60) * hours * 3_600_000 for number in range(100)]
    joined = write_numbered(tmp_path / "a.ts", times, codec="libx264", options={"bf": "2"})
    _, found, _, report = read(joined)
    np.testing.assert_allclose(found, np.arange(100) * 0.04, atol=1e-3)
    assert (report.frames, report.repaired_times) == (100, 1)
    still = write_numbered(tmp_path / "a.mkv", times, codec="mpeg4")
    _, found, _, report = read(still)
    np.testing.assert_allclose(found, np.array(times) / 1000)
    assert report.repaired_times == 0


def test_raw_dv_uses_the_rate_of_its_codec(tmp_path: Path) -> None:
    path = tmp_path / "a.dv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(720, 576, "yuv420p")))
        container.mux(stream.encode(None))
    info, times, _, report = read(path)
    assert info.frame_rate == 25
    assert times.tolist() == pytest.approx([0, 0.04, 0.08])
    assert report.repaired_times == 0


@needs_ffmpeg
def test_interlaced_pictures_are_scaled_whole(tmp_path: Path) -> None:
    path = tmp_path / "fields.mp4"
    bar = "color=black:s=640x360:r=50:d=1[a];color=white:s=60x360:r=50:d=1[b];"
    moving = f"{bar}[a][b]overlay=x='t*500',tinterlace=interleave_top,format=yuv420p"
    command = ["ffmpeg", "-v", "error", "-filter_complex", moving, "-c:v", "libx264", "-qp", "0"]
    command += ["-flags", "+ildct+ilme", "-x264opts", "tff=1", "-colorspace", "bt709", str(path)]
    subprocess.run(command, check=True)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    _, times, pixels, _ = read(path)
    assert (np.abs(pixels.astype(int) - ffmpeg_pixels(path, 85, 48)) <= 2).all()
    np.testing.assert_allclose(times, ffprobe_times(path), atol=1e-6)


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["avi", "asf"])
def test_times_in_a_container_without_presentation_times(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=3"]
    subprocess.run([*command, "-c:v", "libx264", "-bf", "3", str(path)], check=True)
    _, times, _, report = read(path)
    np.testing.assert_allclose(times, np.arange(75) / 25, atol=1e-6)
    assert report.end == pytest.approx(3.0)
