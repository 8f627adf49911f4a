"""Clips contain the frames that ffmpeg finds in their span of a video, upright, at their times."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video import Clip, Decoder, Obtained, Outcome
from synthetic import (
    ORIENTATIONS,
    read_numbers,
    with_matrix,
    write_numbered,
    write_tagged,
    write_video,
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg is not installed"
)
TICKS = list(range(0, 4000, 40))  # milliseconds
UNEVEN = np.cumsum([0, *np.random.default_rng(1).integers(10, 120, 99)]).tolist()  # milliseconds
SPANS = [(0.0, 9.9), (0.0, 2.0), (2.0, 9.9), (2.0, 3.5), (3.5, 9.9), (1.234, 1.9), (4.0, 4.001)]
NO_VIDEO = {
    "m_audio_only.mp4",
    "m_html_named.mp4",
    "m_jpeg_named.mp4",
    "m_png_named.avi",
    "m_random_named.mkv",
    "m_trunc_40bytes.mp4",
    "m_trunc_nomoov.mp4",
    "m_zero.mp4",
}
NO_COPY = {  # no times, times that repeat, or a codec that MP4 does not support
    "m_flv1.flv",
    "m_raw.h264",
    "m_theora.ogv",
    "m_ts_reset.ts",
    "m_ts_size_change.ts",
    "m_wmv2.wmv",
}
CODED = {"g": "12", "bf": "3", "keyint_min": "12", "sc_threshold": "0"}


def ffmpeg_frames(path: Path, *, damaged: bool = False) -> NDArray[np.uint8]:
    """All frames as ffmpeg shows them, without error messages if the file is not damaged."""
    width, height = ffmpeg_size(path)
    command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-vsync", "passthrough"]
    command += ["-enc_time_base", "1:90000", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert damaged or not done.stderr, done.stderr
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def ffprobe(path: Path, *options: str) -> dict[str, Any]:
    command = ["ffprobe", "-v", "error", "-of", "json", *options, f"file:{path}"]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, check=True).stdout
    )
    return found


def ffmpeg_size(path: Path) -> tuple[int, int]:
    """Width and height, upright."""
    (stream,) = ffprobe(path, "-show_streams", "-select_streams", "v:0")["streams"]
    turned = any(abs(data.get("rotation", 0)) == 90 for data in stream.get("side_data_list", []))
    size = stream["width"], stream["height"]
    return size[::-1] if turned else size


def ffprobe_times(path: Path) -> list[float]:
    frames = ffprobe(path, "-show_entries", "frame=pts_time", "-select_streams", "v:0")["frames"]
    return [float(frame["pts_time"]) for frame in frames]


def cut(
    video: Path, folder: Path, spans: list[tuple[float, float]], *, copy: bool = False
) -> list[Outcome]:
    clips = [Clip(*span, folder / f"{number}.mp4") for number, span in enumerate(spans)]
    with Decoder() as decoder:
        return decoder.cut(video, clips, copy=copy)


def shown_in(times: NDArray[np.float64], start: float, end: float) -> list[int]:
    return np.flatnonzero((times >= start) & (times < end)).tolist()


def test_nested_clips_contain_exactly_their_frames(tmp_path: Path) -> None:
    video = write_numbered(tmp_path / "a.webm", [time + 500 for time in UNEVEN])
    times = np.array(ffprobe_times(video))
    times -= times[0]
    outcomes = cut(video, tmp_path, SPANS)
    for number, (span, outcome) in enumerate(zip(SPANS, outcomes, strict=True)):
        expected = shown_in(times, *span)
        clip = tmp_path / f"{number}.mp4"
        if not expected:
            assert isinstance(outcome, VideoError)
            assert "No frame appears in" in str(outcome) or "The video ends" in str(outcome)
            continue
        if span[1] > times[-1] + 0.6:
            assert isinstance(outcome, VideoError)
            continue
        assert isinstance(outcome, Obtained), outcome
        assert read_numbers(ffmpeg_frames(clip)) == expected
        after = np.append(times, outcome.end)[expected[-1] + 1]
        assert outcome == Obtained(
            pytest.approx(times[expected[0]]), pytest.approx(after), len(expected)
        )
        np.testing.assert_allclose(
            ffprobe_times(clip), times[expected] - times[expected[0]], atol=1e-4
        )
        length = float(ffprobe(clip, "-show_format")["format"]["duration"])
        assert length == pytest.approx(outcome.end - outcome.start, abs=2e-3)


def test_a_clip_past_the_end_is_reported_and_others_are_written(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [2.0])
    for copy in (False, True):
        spans = [(0.0, 1.0), (1.0, 2.2), (1.0, 3.0), (5.0, 6.0)]
        first, second, *others = cut(video, tmp_path, spans, copy=copy)
        assert isinstance(first, Obtained)
        assert isinstance(second, Obtained)  # half a second may be missing
        assert second.end == pytest.approx(2.0)
        for other in others:
            assert isinstance(other, VideoError)
            assert "The video ends at 2.00 s" in str(other)


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_clips_are_upright(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", [0.5], size=(160, 96))
    video = with_matrix(plain, tmp_path / "turned.mp4", matrix)
    (outcome,) = cut(video, tmp_path, [(0.0, 0.5)])
    assert isinstance(outcome, Obtained)
    ours, theirs = ffmpeg_frames(tmp_path / "0.mp4"), ffmpeg_frames(video)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 4


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_copies_begin_with_the_key_frame_and_are_bit_exact(name: str, tmp_path: Path) -> None:
    video = write_numbered(
        tmp_path / name, list(range(0, 5000, 40)), codec="libx264", options=CODED
    )
    packets = ffprobe(video, "-show_packets", "-select_streams", "v:0")["packets"]
    times = np.array(ffprobe_times(video))
    origin = times[0]
    times -= origin
    keys = np.array([float(p["pts_time"]) - origin for p in packets if "K" in p["flags"]])
    whole = ffmpeg_frames(video)
    spans = [(0.0, 5.0), (0.0, 1.0), (0.5, 1.0), (1.1, 3.3), (3.3, 5.0)]
    outcomes = cut(video, tmp_path, spans, copy=True)
    for number, (span, outcome) in enumerate(zip(spans, outcomes, strict=True)):
        assert isinstance(outcome, Obtained), outcome
        clip = ffmpeg_frames(tmp_path / f"{number}.mp4")
        begin = keys[keys <= span[0] + 1e-6].max()
        first = int(np.argmin(np.abs(times - begin)))
        assert outcome.start == pytest.approx(begin, abs=1e-3)
        assert outcome.frames == len(clip)
        np.testing.assert_array_equal(clip, whole[first : first + len(clip)])
        assert first + len(clip) > shown_in(times, *span)[-1]
        assert len(clip) <= shown_in(times, begin, span[1] + 0.2)[-1] - first + 1  # B-frames' own
        found = np.array(ffprobe_times(tmp_path / f"{number}.mp4"))
        np.testing.assert_allclose(found, times[first : first + len(clip)] - begin, atol=2e-3)


@pytest.mark.parametrize("copy", [False, True])
def test_a_frame_shown_for_days_affects_only_clips_around_it(copy: bool, tmp_path: Path) -> None:
    days = 200_000
    times = [0, 40, 80, *(days * 1000 + number * 40 for number in range(5))]
    video = write_numbered(tmp_path / "a.mkv", times, codec="libx264", options={"g": "1"})
    spans = [(0.0, 60.0), (0.0, days + 0.1), (days, days + 0.1), (0.04, 0.08)]
    long, too_long, after, before = cut(video, tmp_path, spans, copy=copy)
    assert isinstance(too_long, VideoError)
    assert "longer than MP4 can represent" in str(too_long)
    assert isinstance(long, Obtained)
    assert (long.frames, after, before) == (
        3,
        Obtained(days, pytest.approx(days + 0.12), 3),
        Obtained(0.04, 0.08, 1),
    )
    assert 20_000 < long.end < days
    length = float(ffprobe(tmp_path / "0.mp4", "-show_format")["format"]["duration"])
    assert length == pytest.approx(long.end)
    assert read_numbers(ffmpeg_frames(tmp_path / "0.mp4")) == [0, 1, 2]
    assert read_numbers(ffmpeg_frames(tmp_path / "2.mp4")) == [3, 4, 5]


def test_a_copy_is_refused_if_timestamps_leap_ahead(tmp_path: Path) -> None:
    times = [number * 40 + (number >= 60) * 3_600_000 for number in range(100)]
    video = write_numbered(tmp_path / "a.ts", times, codec="libx264", options=CODED)
    with pytest.raises(VideoError, match=r"leap ahead\. Cut it without --copy"):
        cut(video, tmp_path, [(0.0, 1.0)], copy=True)
    (outcome,) = cut(video, tmp_path, [(2.0, 3.0)])
    assert outcome == Obtained(pytest.approx(2.0), pytest.approx(3.0), 25)


def joined(first: Path, second: Path, path: Path) -> Path:
    """An FLV that continues with the tags of another, 2 s later."""
    data = bytearray(first.read_bytes())
    rest = second.read_bytes()
    at = 13
    while at < len(rest):
        size = 11 + int.from_bytes(rest[at + 1 : at + 4], "big")
        tag = bytearray(rest[at : at + size + 4])
        tag[4:7] = (int.from_bytes(tag[4:7], "big") + 2000).to_bytes(3, "big")
        data += tag if tag[0] == 9 else b""
        at += size + 4
    path.write_bytes(data)
    return path


def test_a_copy_is_refused_if_the_coding_changes(tmp_path: Path) -> None:
    even = list(range(0, 2000, 40))
    options = {"g": "12", "bf": "0"}
    first = write_numbered(tmp_path / "first.flv", even, codec="libx264", options=options)
    other = {**options, "profile": "baseline"}
    second = write_numbered(
        tmp_path / "second.flv", even, codec="libx264", options=other, size=(64, 48)
    )
    same = joined(first, first, tmp_path / "same.flv")
    changed = joined(first, second, tmp_path / "changed.flv")
    (outcome,) = cut(same, tmp_path, [(1.0, 3.5)], copy=True)
    assert isinstance(outcome, Obtained)
    assert outcome.frames == len(ffmpeg_frames(tmp_path / "0.mp4"))
    with pytest.raises(VideoError, match=r"coded in another way.*Cut it without --copy"):
        cut(changed, tmp_path, [(1.0, 3.5)], copy=True)
    (outcome,) = cut(changed, tmp_path, [(1.0, 3.5)])
    assert isinstance(outcome, Obtained)


def test_a_clip_with_nan_times_is_refused(tmp_path: Path) -> None:
    for span in ((float("nan"), 1.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="must start and end at a time"):
            Clip(*span, tmp_path / "clip.mp4")


def test_key_frames_that_need_earlier_pictures_are_not_copied(tmp_path: Path) -> None:
    """Intra refresh: only the first picture is complete, and the others renew it in stripes."""
    options = {"x264-params": "intra-refresh=1:keyint=30"}
    video = write_numbered(tmp_path / "a.mp4", TICKS, codec="libx264", options=options)
    spans = [(0.0, 1.0), (2.0, 3.0), (2.1, 3.0)]
    first, *others = cut(video, tmp_path, spans, copy=True)
    assert isinstance(first, Obtained)
    assert first.frames == len(ffmpeg_frames(tmp_path / "0.mp4"))
    for other in others:
        assert isinstance(other, VideoError)
        assert "cannot be decoded without" in str(other)
        assert str(other).endswith("Cut it without --copy.")
    assert not (tmp_path / "1.mp4").exists()


def test_key_frames_of_open_groups_are_copied(tmp_path: Path) -> None:
    options = {"x264-params": "open-gop=1:keyint=30:bframes=3"}
    video = write_numbered(tmp_path / "a.mp4", TICKS, codec="libx264", options=options)
    (outcome,) = cut(video, tmp_path, [(2.0, 3.0)], copy=True)
    assert isinstance(outcome, Obtained)
    assert outcome.start > 0
    assert outcome.frames == len(ffmpeg_frames(tmp_path / "0.mp4"))


@pytest.mark.parametrize("kind", ["avi", "asf"])
def test_pictures_without_times_are_not_copied(kind: str, tmp_path: Path) -> None:
    video = tmp_path / f"a.{kind}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=3"]
    subprocess.run([*command, "-c:v", "libx264", "-bf", "3", str(video)], check=True)
    with pytest.raises(VideoError, match=r"when pictures appear.*Cut it without --copy"):
        cut(video, tmp_path, [(0.0, 1.0)], copy=True)
    (outcome,) = cut(video, tmp_path, [(1.0, 2.0)])
    assert outcome == Obtained(1.0, 2.0, 25)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("copy", [False, True])
def test_a_full_disk_is_not_blamed_on_the_video(copy: bool, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [1.0])
    with Decoder() as decoder:
        with pytest.raises(OSError, match="space") as caught:
            decoder.cut(video, [Clip(0.0, 1.0, Path("/dev/full"))], copy=copy)
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(FileNotFoundError):
            decoder.cut(video, [Clip(0.0, 1.0, tmp_path / "none" / "clip.mp4")], copy=copy)
        with pytest.raises(VideoError, match="does not exist"):
            decoder.cut(tmp_path / "none.mp4", [Clip(0.0, 1.0, tmp_path / "clip.mp4")], copy=copy)


@pytest.mark.parametrize("copy", [False, True])
def test_every_damaged_file(copy: bool, shared: Path, tmp_path: Path) -> None:
    entries = json.loads((shared / "damaged/MANIFEST.json").read_text())
    refused = set()
    target = tmp_path / "clip.mp4"
    with Decoder() as decoder:
        for entry in entries:
            name, end = entry["file"], min(0.5, (entry["last_s"] or 0) + 0.01)
            video = shared / "damaged" / name
            try:
                (outcome,) = decoder.cut(video, [Clip(0, end, target)], copy=copy)
            except VideoError as error:
                refused.add(name)
                reason = str(error)
                assert reason.endswith("Cut it without --copy.") or name in NO_VIDEO, reason
                continue
            assert isinstance(outcome, Obtained), (name, str(outcome))
            frames = ffmpeg_frames(target, damaged=copy and name == "m_bitrot.mp4")
            assert outcome.frames == len(frames), name
    assert refused == (NO_VIDEO | NO_COPY if copy else NO_VIDEO)


def test_odd_sides_lose_a_pixel(tmp_path: Path) -> None:
    video = write_tagged(tmp_path / "a.mkv", codec="ffv1", size=(97, 51))
    with Decoder() as decoder:
        decoder.cut(video, [Clip(0.0, 0.2, tmp_path / "clip.mp4")])
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (96, 50)
