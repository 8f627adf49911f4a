"""Previews are small, end in time, say how they were made, and can be played while they load."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from action100m.video import Clip, Decoder, Obtained, Outcome, Preview
from synthetic import write_numbered, write_video


def preview(video: Path, target: Path, end: float, side: int = 48) -> Outcome:
    with Decoder() as decoder:
        (outcome,) = decoder.cut(video, [Clip(0.0, end, target, Preview(side, "made so"))])
    return outcome


def test_no_frame_is_shown_beyond_the_end(tmp_path: Path) -> None:
    video = write_numbered(tmp_path / "a.mkv", [0, 400, 5000, 5040])
    target = tmp_path / "preview.mp4"
    assert preview(video, target, 1.0) == Obtained(0.0, 1.0, 2)
    with av.open(str(target)) as container:
        assert container.duration == 1.0 * av.time_base
        assert container.metadata["comment"] == "made so"


def test_a_frame_that_appears_less_than_a_tick_before_the_end_is_left_out(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [2.0])
    target = tmp_path / "preview.mp4"
    assert preview(video, target, 1.000001) == Obtained(0.0, pytest.approx(1.0), 30)
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == 30


def test_the_video_may_end_earlier(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [2.0])
    assert preview(video, tmp_path / "preview.mp4", 90.0) == Obtained(0.0, pytest.approx(2.0), 60)


def test_the_index_comes_first_and_key_frames_are_near(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [6.0])
    target = tmp_path / "preview.mp4"
    preview(video, target, 90.0)
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(target)) as container:
        keys = [n for n, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert np.diff([*keys, 180]).max() <= 60


@pytest.mark.parametrize(
    ("size", "expected"), [((160, 90), (86, 48)), ((90, 160), (48, 86)), ((98, 42), (112, 48))]
)
def test_the_shorter_side_is_scaled_and_both_are_even(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a.mp4", [0.2], size=size)
    preview(video, tmp_path / "preview.mp4", 1.0)
    with av.open(str(tmp_path / "preview.mp4")) as container:
        (stream,) = container.streams
        assert (stream.width, stream.height) == expected


def test_a_preview_is_never_a_copy(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [0.2])
    clip = Clip(0.0, 1.0, tmp_path / "preview.mp4", Preview(48, ""))
    with Decoder() as decoder, pytest.raises(ValueError, match="cannot be a copy"):
        decoder.cut(video, [clip], copy=True)
