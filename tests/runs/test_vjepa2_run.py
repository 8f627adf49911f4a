"""A run with V-JEPA 2, on the CPU, from a tiny random checkpoint of the real architecture."""

from __future__ import annotations

import gc
import re
import subprocess
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import action100m
from action100m.config import SegmentationConfig
from action100m.config_file import load_config
from action100m.errors import ConfigError
from action100m.runs.run import RunResult
from action100m.segmentation.encoders import pin
from command import call, command
from synthetic import write_video

torch = pytest.importorskip("torch", reason="torch is not installed")
checkpoints = pytest.importorskip(
    "checkpoints", reason="transformers is not installed", exc_type=ImportError
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    checkpoints.save_vjepa2(folder / "checkpoint", frames_per_clip=16)
    path = folder / "config.toml"
    path.write_text(
        f"""
        [segmentation]
        encoder = "vjepa2_torch"
        keep_embeddings = true
        [segmentation.vjepa2]
        model = "{folder / "checkpoint"}"
        device = "cpu"
        precision = "float32"
        """
    )
    return path


def embeddings(out: Path) -> dict[str, list[float]]:
    parts = sorted((out / "parts").rglob("[!.]*.parquet"))
    return {part.name: pq.read_table(part)["embeddings"][0].as_py() for part in parts}


def test_a_run_ends_with_the_models_embeddings(videos: Path, config: Path, tmp_path: Path) -> None:
    answer = call(
        "run", videos, "--out", tmp_path, "--config", config, "--trace", tmp_path / "first.json"
    )
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"^segment .*times real time$", answer.stderr, re.MULTILINE)
    reached = re.search(r"^embed reaches ([\d.]+)% of the", answer.stderr, re.MULTILINE)
    assert reached is not None
    assert 0 < float(reached[1]) < 100
    assert "sha256:" in (tmp_path / "run.toml").read_text()
    rows = embeddings(tmp_path)
    assert len(rows) == 5
    assert all(np.isfinite(values).all() for values in rows.values())
    assert call("validate", tmp_path).returncode == 0
    assert not list((tmp_path / "journal").rglob("*.npy"))
    again = call("run", "--out", tmp_path, "--trace", tmp_path / "trace.json")
    assert "5 of 5 videos left unchanged" in again.stderr
    trace = (tmp_path / "trace.json").read_text()
    assert '"name": "export"' in trace
    assert '"name": "load"' not in trace  # the model is not needed


def kill_after_a_piece(out: Path, *words: object) -> None:
    """Run a command, and kill it once its run folder holds rows of an unfinished video."""
    with subprocess.Popen(command(*words), stderr=subprocess.DEVNULL) as process:
        pieces: list[Path] = []
        while process.poll() is None and not pieces:
            pieces = list((out / "journal").rglob("[!.]*.npy"))
            time.sleep(0.01)
        process.kill()
    assert pieces, "the run ended before a piece stood"


def test_an_interrupted_video_keeps_its_pieces(config: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "long.mp4", [40.0] * 8, frame_rate=15)
    words = ("run", video, "--config", config, "--out")
    assert call(*words, tmp_path / "whole").returncode == 0
    kill_after_a_piece(tmp_path / "cut", *words, tmp_path / "cut")
    assert call(*words, tmp_path / "cut").returncode == 0
    assert embeddings(tmp_path / "cut") == embeddings(tmp_path / "whole")
    assert not list((tmp_path / "cut" / "journal").rglob("*.npy"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('device = "cuda"', "no device 'cuda'"),
        ('model = "/no/such/folder"', "/no/such/folder"),
        ('precision = "fp8"', "fp8 needs an NVIDIA GPU"),
    ],
)
def test_unavailable_settings_are_reported_before_any_work(
    videos: Path, config: Path, tmp_path: Path, setting: str, message: str
) -> None:
    if "cuda" in setting and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    lines = [
        line for line in config.read_text().splitlines() if setting.split(maxsplit=1)[0] not in line
    ]
    path = tmp_path / "config.toml"
    path.write_text("\n".join([*lines, setting]))
    answer = call("run", videos, "--out", tmp_path / "out", "--config", path)
    assert answer.returncode == 2, answer.stderr
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_device_is_checked_before_the_checkpoint_is_fetched() -> None:
    vjepa2 = {"model": "/no/such/folder", "device": "cuda:99"}
    with pytest.raises(ConfigError, match="no device 'cuda:99'"):
        pin(SegmentationConfig.model_validate({"encoder": "vjepa2_torch", "vjepa2": vjepa2}))


def test_rows_of_a_changed_file_are_not_reused(config: Path, tmp_path: Path) -> None:
    video, other = tmp_path / "v.mp4", tmp_path / "other" / "v.mp4"
    other.parent.mkdir()
    write_video(video, [40.0] * 8, seed=1, frame_rate=15)
    write_video(other, [40.0] * 8, seed=2, frame_rate=15)
    size = max(path.stat().st_size for path in (video, other))
    for path in (video, other):  # data after the end of an MP4 is ignored
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    words = ("run", "--config", config, "--out")
    assert call(*words, tmp_path / "whole", other).returncode == 0
    kill_after_a_piece(tmp_path / "cut", *words, tmp_path / "cut", video)
    video.write_bytes(other.read_bytes())
    assert call(*words, tmp_path / "cut", video).returncode == 0
    ours, theirs = (next(iter(embeddings(tmp_path / name).values())) for name in ("cut", "whole"))
    assert ours == theirs


def test_the_encoder_is_gone_when_the_models_of_other_stages_are_loaded(
    videos: Path, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from action100m.segmentation.encoders.vjepa2 import VJepa2Model  # noqa: PLC0415

    models: list[weakref.ref[Any]] = []
    alive: list[Any] = []
    load = VJepa2Model.load

    def loaded(self: Any) -> None:
        load(self)
        models.append(weakref.ref(self))

    def release() -> None:
        gc.collect()
        alive.append([model() for model in models])

    monkeypatch.setattr(VJepa2Model, "load", loaded)
    monkeypatch.setattr("action100m.runs.run.release_memory", release)
    result: RunResult = action100m.run(videos / "star.mp4", tmp_path, load_config(config))
    assert result.exit_code == 0
    assert alive == [[None]]
