"""The frame at a given time is the one that a pass over the whole file shows at that time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from action100m.errors import VideoError
from action100m.video import Decoder, FrameSpec
from action100m.video.pictures import Pictures
from action100m.video.seek import frames_at
from synthetic import read_numbers, with_flags, with_matrix, write_numbered, write_video

SPEC = FrameSpec(stride=1, side=72)
EVEN = list(range(0, 25000, 100))  # milliseconds: 250 frames
UNEVEN = np.cumsum([700, *np.random.default_rng(2).integers(20, 180, 249)]).tolist()


def file_times(path: Path) -> np.ndarray:
    """(n,) seconds of all frames, from the first one on."""
    with av.open(str(path)) as container:
        times = np.array([frame.time for frame in container.decode(video=0)])
    return times - times[0]


@pytest.mark.parametrize(
    ("name", "codec", "times"),
    [
        ("a.mp4", "libx264", EVEN),
        ("a.mkv", "libx264", UNEVEN),
        ("a.webm", "libvpx-vp9", UNEVEN),
        ("a.ts", "libx264", EVEN),  # no index: decoded from the start
        ("a.avi", "mpeg4", EVEN),
    ],
)
def test_frames_found_by_seeking_equal_those_of_a_full_pass(
    name: str, codec: str, times: list[int], tmp_path: Path
) -> None:
    options = {"g": "30"} | ({"bf": "3"} if codec == "libx264" else {})
    video = write_numbered(tmp_path / name, times, codec=codec, options=options)
    shown = file_times(video)
    generator = np.random.default_rng(3)
    jumps = [[0.0, 0.01, 12.0, 12.0, 24.5], [23.0], [11.0, 22.0], [15.03, 15.04, 15.5]]
    jumps += [np.sort(generator.uniform(0, shown[-1], 4)).tolist() for _ in range(8)]
    with Decoder() as decoder:
        for moments in jumps:
            expected = np.searchsorted(shown, moments, side="right") - 1
            batch = decoder.frames_at(video, moments, SPEC)
            assert read_numbers(batch.pixels) == expected.tolist(), moments
            np.testing.assert_allclose(batch.times, shown[expected], atol=1e-6)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "3"}),
        ("libx264", {"bf": "3", "x264-params": "open-gop=1"}),
        ("mpeg4", {"bf": "2"}),
    ],
)
@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_seek_that_lands_too_late_is_repeated_from_earlier(
    codec: str, options: dict[str, str], movflags: str, tmp_path: Path
) -> None:
    plain = write_numbered(tmp_path / "a.mkv", EVEN, codec=codec, options={"g": "20", **options})
    video = with_flags(plain, tmp_path / "a.mp4", movflags)
    shown = file_times(video)
    with Decoder() as decoder:
        for expected in range(101, len(shown)):
            moment = shown[expected] + 0.01
            batch = decoder.frames_at(video, [0.0, moment], SPEC)
            assert read_numbers(batch.pixels) == [0, expected]


def test_a_misleading_index_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_numbered(tmp_path / "a.mp4", EVEN, codec="libx264", options={"g": "20"})
    whole = Pictures.jump
    targets = []

    def jump(self: Pictures, time: float) -> Iterator[tuple[float, VideoFrame]]:
        targets.append(time)
        return whole(self, 24.0)

    monkeypatch.setattr(Pictures, "jump", jump)
    with pytest.raises(VideoError, match=r"no seek reaches 15\.00 s"):
        frames_at(video, [0.0, 15.0], SPEC)
    assert targets == [15, 14, 12, 8, 0]


@pytest.mark.parametrize("times", [[], [float("nan")], [0.0, float("inf")], [2.0, 1.0]])
def test_invalid_times_are_refused(times: list[float], tmp_path: Path) -> None:
    with Decoder() as decoder:
        with pytest.raises(ValueError, match="finite seconds in order"):
            decoder.frames_at(tmp_path / "a.mp4", times, SPEC)
        assert decoder.pid is None


def test_pixels_are_upright_and_have_the_requested_size(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", [1.0], size=(160, 96))
    video = with_matrix(plain, tmp_path / "turned.mp4", (0, 1, -1, 0))
    with Decoder() as decoder:
        for spec in (FrameSpec(1, 48), FrameSpec(1, 48, "crop"), FrameSpec(1, 48, "pad")):
            (whole,) = decoder.open(video, spec)
            some = decoder.frames_at(video, [0.5, 0.9], spec)
            np.testing.assert_array_equal(some.pixels, whole.pixels[[15, 27]])


def test_a_time_after_the_end_is_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [1.0])
    assert frames_at(video, [1.4], SPEC).times.tolist() == [pytest.approx(29 / 30)]
    with pytest.raises(VideoError, match=r"ends at 1\.00 s, before 1\.60 s"):
        frames_at(video, [0.5, 1.6], SPEC)
    with pytest.raises(VideoError, match="does not exist"):
        frames_at(tmp_path / "none.mp4", [0.5], SPEC)
