from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from action100m.demo import FRAME_RATE, SIZE, draw_demo_video


def test_cuts_are_at_the_reported_times(tmp_path: Path) -> None:
    path = tmp_path / "demo.mp4"
    cuts = draw_demo_video(path, seconds=15)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 15 * FRAME_RATE
    assert frames[0].shape == (SIZE[1], SIZE[0], 3)
    small = np.stack([frame[::6, ::6] for frame in frames]).astype(float)
    change = np.abs(np.diff(small, axis=0)).mean(axis=(1, 2, 3))
    at_cuts = np.array([round(cut * FRAME_RATE) - 1 for cut in cuts])
    elsewhere = np.delete(change, at_cuts)
    assert len(cuts) == 25
    assert change[at_cuts].min() > 2 * np.quantile(elsewhere, 0.99)


def test_the_demo_is_deterministic(tmp_path: Path) -> None:
    paths = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for path in paths:
        draw_demo_video(path, seconds=5)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_too_short_a_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 5 seconds"):
        draw_demo_video(tmp_path / "demo.mp4", seconds=1)
