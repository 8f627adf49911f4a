"""A few small videos that all tests of the run read and none modifies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synthetic import write_video

SCENES = {
    "boat": [2.0, 1.5, 2.5],
    "crane": [1.0, 1.0, 1.0, 1.0],
    "hat": [3.0, 2.0],
    "star": [0.4],
    "swan": [1.2, 2.4, 0.8],
}


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five short videos, one of them shorter than half a second."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, scenes) in enumerate(SCENES.items()):
        write_video(folder / f"{name}.mp4", scenes, seed=seed)
    return folder


@pytest.fixture
def own_videos(videos: Path, tmp_path: Path) -> Path:
    """A copy of the videos that a test may modify."""
    return Path(shutil.copytree(videos, tmp_path / "videos"))
