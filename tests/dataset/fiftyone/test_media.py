"""Clips begin at the first frame, end in time, are upright, and are never torn or made twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import action100m
from action100m import DatasetError, VideoError
from action100m.dataset.fiftyone.media import clip_video
from action100m.dataset.fiftyone.write import Export, export_fiftyone
from action100m.video import Decoder
from command import command
from previews import annotated_rows, export_rows
from rows import write_rows
from synthetic import draw_frame, with_matrix, write_numbered, write_tagged, write_video


def clip(video: Path | None, target: Path, seconds: float = 90.0) -> tuple[int, float]:
    with Decoder() as decoder:
        clock = clip_video(video, target, seconds, decoder)
    return clock.frames, clock.duration


def shown(path: Path) -> tuple[list[float], np.ndarray, av.VideoFrame]:
    """Times of all frames, the first one's pixels, and the first frame."""
    with av.open(str(path)) as container:
        assert not container.streams.audio
        frames = list(container.decode(video=0))
        return [frame.time for frame in frames], frames[0].to_ndarray(format="rgb24"), frames[0]


@pytest.mark.parametrize(("seconds", "frames"), [(0.5, 15), (1.0, 30), (90.0, 60)])
def test_a_clip_has_the_first_seconds_of_the_video(
    seconds: float, frames: int, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a.mp4", [2.0])
    count, duration = clip(video, tmp_path / "clip.mp4", seconds)
    times, _, first = shown(tmp_path / "clip.mp4")
    assert (count, duration) == (frames, pytest.approx(frames / 30))
    np.testing.assert_allclose(times, np.arange(frames) / 30, atol=1e-4)
    assert (first.width, first.height, first.format.name) == (854, 480, "yuv420p")


def test_timestamps_of_a_variable_frame_rate_video_are_kept(tmp_path: Path) -> None:
    milliseconds = [1000, 1040, 1500, 1520, 2900, 3000]
    video = write_numbered(tmp_path / "a.webm", milliseconds)
    frames, duration = clip(video, tmp_path / "clip.mp4", 1.9)
    times, _, _ = shown(tmp_path / "clip.mp4")
    np.testing.assert_allclose(times, [0, 0.04, 0.5, 0.52], atol=1e-4)
    assert (frames, duration) == (4, pytest.approx(1.9))  # the last one lasts until the next


def test_frames_are_upright_and_keep_their_colours(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [0.2], size=(160, 96))
    clip(video, tmp_path / "upright.mp4")
    _, pixels, _ = shown(tmp_path / "upright.mp4")
    small = pixels[::5, ::5].astype(int)
    expected = draw_frame(0, 0.0, 160, 96).astype(int)
    assert np.abs(small[:96, :160] - expected).mean() < 12
    turned = with_matrix(video, tmp_path / "turned.mp4", (0, 1, -1, 0))
    clip(turned, tmp_path / "portrait.mp4")
    _, portrait, first = shown(tmp_path / "portrait.mp4")
    assert (first.width, first.height) == (480, 800)
    assert np.abs(portrait.astype(int) - np.rot90(pixels, -1)).mean() < 6


def test_wide_pixels_become_wide_frames(tmp_path: Path) -> None:
    video = write_tagged(tmp_path / "a.mkv", codec="libx264", sample_aspect_ratio=Fraction(2))
    clip(video, tmp_path / "clip.mp4")
    _, _, first = shown(tmp_path / "clip.mp4")
    assert (first.width, first.height) == (1706, 480)


def test_existing_clips_are_kept_and_changed_ones_are_made_again(tmp_path: Path) -> None:
    video, target = write_video(tmp_path / "a.mp4", [1.0]), tmp_path / "clip.mp4"
    clip(video, target)
    original = target.stat().st_mtime_ns
    clip(video, target)
    assert target.stat().st_mtime_ns == original
    assert clip(video, target, 0.5)[0] == 15
    write_video(video, [0.2, 0.2])
    assert clip(video, target, 0.5)[0] == 12
    write_video(video, [0.3, 0.4])
    assert clip(video, target, 0.5)[0] == 15
    assert clip(video, target)[0] == 21
    target.write_bytes(target.read_bytes()[:3000])
    assert clip(video, target)[0] == 21
    video.unlink()
    assert clip(video, target)[0] == 21  # it could not be made again
    assert clip(None, target)[0] == 21
    with pytest.raises(VideoError):
        clip(video, target, 0.5)
    with pytest.raises(VideoError, match="no file with its uid"):
        clip(None, tmp_path / "other.mp4")


def test_missing_broken_and_mismatched_videos_are_left_out(tmp_path: Path) -> None:
    rows = annotated_rows(3)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"broken" * 100)
    videos = {"video0000": broken, "video0001": write_video(tmp_path / "short.mp4", [1.0])}
    written, samples = export_rows(tmp_path, rows, videos, seconds=10.0)
    assert samples == []
    assert "video0000: Not a video file" in written.left_out[0]
    assert "do not belong to the same video" in written.left_out[1]
    assert written.left_out[2] == "video0002: There is no file with its uid."
    assert not list((tmp_path / "out" / "data").glob("*"))


def test_labels_count_the_frames_of_the_clip(tmp_path: Path) -> None:
    rows = annotated_rows(1)
    video = write_video(tmp_path / "a.mp4", [5.0, 7.0], frame_rate=12)
    for node in rows[0]["nodes"]:
        node["start"], node["end"] = node["start"] / 5, node["end"] / 5  # 53 s to under 12 s
    _, samples = export_rows(tmp_path, rows, {"video0000": video}, seconds=10.0)
    assert samples[0]["metadata"] == {
        "_cls": "VideoMetadata",
        "frame_rate": 12.0,
        "total_frame_count": 120,
        "duration": 10.0,
        "size_bytes": (tmp_path / "out" / "data" / "video0000.mp4").stat().st_size,
        "mime_type": "video/mp4",
        "frame_width": 854,
        "frame_height": 480,
        "encoding_str": "avc1",
    }
    assert samples[0]["gpt_summary_brief"]["detections"][0]["support"] == [1, 120]


def test_a_killed_export_resumes_and_leaves_no_partial_files(tmp_path: Path) -> None:
    rows = annotated_rows(3)
    write_rows(tmp_path / "data.parquet", rows)
    (tmp_path / "videos").mkdir()
    for row in rows:
        write_video(tmp_path / "videos" / f"{row['video_uid']}.mp4", [54.0], size=(64, 36))
    words = ["export", tmp_path / "data.parquet", "--format", "fiftyone", "--seconds", "20"]
    words += ["--videos", tmp_path / "videos", "--out", tmp_path / "out"]
    data = tmp_path / "out" / "data"
    with subprocess.Popen(command(*words), start_new_session=True) as process:
        while len(list(data.glob("v*.mp4"))) != 1 or not list(data.glob(".tmp-*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    (whole,) = data.glob("v*.mp4")
    original = whole.stat().st_mtime_ns
    assert not (tmp_path / "out" / "metadata.json").exists()
    subprocess.run(command(*words), check=True, capture_output=True)
    assert whole.stat().st_mtime_ns == original
    assert sorted(path.name for path in data.iterdir()) == [f"{r['video_uid']}.mp4" for r in rows]
    for path in data.iterdir():
        assert len(shown(path)[0]) == 600


def test_clips_of_an_unreadable_file_are_kept(tmp_path: Path) -> None:
    rows = annotated_rows(2)
    names = [row["video_uid"] for row in rows]
    videos = {name: write_video(tmp_path / f"{name}.mp4", [1.0]) for name in names}
    data = tmp_path / "data"
    data.mkdir()
    for name, row in zip(names, rows, strict=True):
        write_rows(data / f"{name}.parquet", [row])
    export = Export(videos, 0.5)
    out = tmp_path / "out"
    export_fiftyone(action100m.open(data), out, export)
    clips = sorted((out / "data").iterdir())
    assert len(clips) == 2
    (data / f"{names[1]}.parquet").write_bytes(b"torn")
    errors: list[DatasetError] = []
    assert export_fiftyone(action100m.open(data, errors.append), out, export).samples == 1
    assert len(errors) == 1
    assert sorted((out / "data").iterdir()) == clips
    (data / f"{names[1]}.parquet").unlink()
    export_fiftyone(action100m.open(data), out, export)
    assert sorted((out / "data").iterdir()) == clips[:1]
