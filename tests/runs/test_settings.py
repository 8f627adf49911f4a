"""Settings of a run, which it keeps, and which may change from one call to the next."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from action100m.config import Config, CutConfig, VideoConfig
from action100m.config_file import read_toml
from action100m.errors import ConfigError
from action100m.runs.export import export_what_changed
from action100m.runs.folder import RunFolder
from action100m.runs.settings import read_settings
from action100m.runs.states import State
from running import dataset, run, states


def test_changing_the_cut_decodes_nothing(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    _, text = run(videos, tmp_path, Config(cut=CutConfig(min_duration=1.5)))
    assert "5 of 5 videos left unchanged" in text
    for nodes in pq.read_table(tmp_path / "data")["nodes"].to_pylist():
        assert all(node["end"] - node["start"] > 1.49 for node in nodes[1:])


def test_results_of_another_stride_are_kept_separately(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    other = Config(video=VideoConfig(stride=2))
    assert set(states(tmp_path, other).values()) == {State.STALE}
    run(videos, tmp_path, other)
    assert set(states(tmp_path, other).values()) == {State.DONE}
    assert set(states(tmp_path, Config()).values()) == {State.DONE}


def test_the_run_folder_remembers_its_configuration(videos: Path, tmp_path: Path) -> None:
    config = Config(video=VideoConfig(stride=2), cut=CutConfig(min_duration=1.0))
    run(videos, tmp_path, config)
    before = dataset(tmp_path)
    _, text = run([], tmp_path)
    assert "5 of 5 videos left unchanged" in text
    assert dataset(tmp_path) == before


def test_a_dataset_has_no_results_of_another_configuration(
    own_videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(own_videos, out)
    shutil.rmtree(own_videos)
    result, _ = run([], out, Config(video=VideoConfig(stride=2)))
    assert result.exit_code == 1
    assert pq.read_table(out / "data").num_rows == 0


def test_an_invalid_run_toml_is_replaced_by_a_configuration(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    for content, message in (
        ("[config.video]\nold_setting = 1\n", "old_setting"),
        ("", "has lost its settings.* --config FILE"),
        ("[stages.segment]\n", "has lost its settings.* --config FILE"),
    ):
        (tmp_path / "run.toml").write_text(content)
        with pytest.raises(ConfigError, match=message):
            run(videos, tmp_path)
        with pytest.raises(ConfigError, match=message):
            read_settings(RunFolder(tmp_path))
    assert "5 of 5 videos left unchanged" in run(videos, tmp_path, Config())[1]


def test_changed_settings_are_reported(videos: Path, tmp_path: Path) -> None:
    _, text = run(videos, tmp_path, Config(video=VideoConfig(stride=8)))
    assert "change" not in text
    _, text = run(videos, tmp_path, Config(cut=CutConfig(min_duration=1.0)))
    assert "video.stride: 8 before, 4 now" in text
    assert "cut.min_duration: 0.5 before, 1.0 now" in text
    assert text.count("Settings of") == 2


def test_a_run_with_outdated_settings_does_not_export(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    before = dataset(tmp_path)
    folder = RunFolder(tmp_path)
    settings = read_settings(folder)
    config = settings.config.model_copy(update={"cut": CutConfig(min_duration=1.5)})
    overtaken = replace(settings, config=config)
    assert export_what_changed(folder, overtaken, 1, lambda: None) is None
    assert dataset(tmp_path) == before


def test_run_toml_names_the_versions_of_installed_libraries(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path)
    versions = read_toml(tmp_path / "run.toml")["versions"]
    assert versions["av"] == version("av")
    for name in ("torch", "transformers", "vllm"):
        assert (name in versions) == (find_spec(name) is not None)
