"""The commands, called as a user calls them."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from action100m.cli import making, reading, sharing, system, training  # noqa: F401
from action100m.cli.app import app, print_json
from action100m.config import OpenAIConfig
from action100m.config_file import load_config
from action100m.errors import ConfigError
from action100m.text import shows
from command import call, command
from synthetic import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "-dash 100%d 'q\".mp4", [2.0, 3.0, 2.0])


@pytest.fixture(scope="module")
def finished(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    answer = call("run", video.parent, "--out", out)
    assert answer.returncode == 0, answer.stderr
    assert "done" in answer.stdout
    assert "null, as no model" in answer.stdout
    return out


def every_command(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(group, "commands", {}).items():
        yield from every_command(inner, *words, name)


def test_every_command_has_help_and_says_what_it_does() -> None:
    commands = list(every_command(typer.main.get_command(app)))
    assert len(commands) > 15
    for words in commands:
        answer = CliRunner().invoke(app, [*words, "--help"])
        assert answer.exit_code == 0
        usage, _, rest = answer.output.partition("[OPTIONS]")
        assert " ".join(words) in " ".join(usage.split())
        assert re.search(r"[a-z]\.\s", rest), words


def test_starting_the_command_line_imports_nothing_slow() -> None:
    groups = "making, reading, sharing, system, training"
    code = f"import sys; from action100m.cli import {groups}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"av", "matplotlib", "pandas", "pyarrow", "pydantic", "torch"} & set(loaded)


def test_segment_prints_the_tree(video: Path) -> None:
    answer = call("segment", "--", video.name, cwd=video.parent)
    assert answer.returncode == 0, answer.stderr
    assert "leaves, depth" in answer.stdout


def test_segment_as_json_and_as_a_figure(video: Path, tmp_path: Path) -> None:
    answer = call("segment", "--json", "--figure", tmp_path / "t.svg", "--", video)
    row = json.loads(answer.stdout)
    assert row["nodes"][0]["start"] == 0.0
    assert row["nodes"][0]["end"] == pytest.approx(7.0, abs=0.01)
    assert (tmp_path / "t.svg").read_text().startswith("<?xml")


def test_every_command_works_on_a_finished_run(finished: Path) -> None:
    assert "1 video" in call("status", finished).stdout
    assert call("validate", finished).returncode == 0
    assert call("export", finished).returncode == 0
    assert call("report", finished, "--figures", "png").returncode == 0
    assert (finished / "report" / "index.html").stat().st_size > 5000
    assert len(list((finished / "report").rglob("*.png"))) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "/no/such/place", "--out", "OUT"], 2, "No file or folder matches"),
        (["run", "EMPTY", "--out", "OUT"], 1, "No video was found"),
        (["run", "VIDEO", "--out", "/proc/nowhere"], 2, "Cannot use /proc/nowhere"),
        (["run", "EMPTY", "--out", "OUT", "--workers", "0"], 2, "workers"),
        (["run", "EMPTY", "--out", "OUT", "--config", "/no.toml"], 2, "Cannot read"),
        (["status", "EMPTY"], 2, "not a run folder"),
        (["run", "", "--out", "OUT"], 2, "An argument is empty (after run)"),
        (["run", "EMPTY", "--out", ""], 2, "An argument is empty (after --out)"),
        (["stats", "EMPTY", "--figures="], 2, "An argument is empty (--figures=)"),
        (["run", "VIDEO", "--out", "LOOP"], 2, "Cannot use"),
        (["run", "VIDEO", "--out", "caf\udce9"], 2, "not valid UTF-8"),
        (["run", "VIDEO", "--out", "OUT", "--metadata", "\udce9.csv"], 2, "not valid UTF-8"),
        (["clips", "EMPTY", "--out", "caf\udce9"], 2, "not valid UTF-8"),
        (["balance", "EMPTY", "--out", "caf\udce9"], 2, "not valid UTF-8"),
        (["balance", "EMPTY", "--out", "OUT", "--samples", "9" * 30], 2, "--samples"),
        (["segment", "/no/such/video.mp4"], 1, "/no/such/video.mp4"),
        (["segment", "any.mp4", "--figure", "x.gif"], 2, ".png or .svg"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_failures_print_a_sentence_and_set_the_exit_code(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    places = {"EMPTY": "empty", "VIDEO": "a.mp4", "OUT": "out", "LOOP": "loop"}
    answer = call(*(places.get(word, word) for word in words), cwd=tmp_path)
    assert answer.returncode == code, answer.stderr
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr


def test_names_in_any_encoding_are_printed_safely(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \x1b[31m.mp4")
    (tmp_path / name).write_bytes(b"broken" * 100)
    (tmp_path / name).with_suffix(".info.json").write_text("rubbish")
    answer = call("run", tmp_path, "--out", tmp_path / "out")
    assert answer.returncode == 1, answer.stderr
    assert "caf" in answer.stdout
    assert "info.json was not used" in answer.stderr
    assert "\x1b" not in answer.stdout + answer.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_valid_and_readable_in_any_encoding(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = io.BytesIO()
    stdout = io.TextIOWrapper(held, encoding, "backslashreplace")
    monkeypatch.setattr(sys, "stdout", stdout)
    value = {"title": 'é 👩\u200d🍳\xa0\xad\x7f\x9b\u2028\U000e0067\udcff "x" \\'}
    print_json(value)
    printed = held.getvalue().decode(encoding)
    assert json.loads(printed) == value
    assert all(shows(character) for character in printed.rstrip("\n"))
    assert ("é 👩\u200d🍳" in printed) == (encoding == "utf-8")


def test_export_reports_what_it_left_out(video: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"broken" * 100)
    call("run", tmp_path / "broken.mp4", "--out", tmp_path / "out")
    answer = call("export", tmp_path / "out")
    assert (answer.returncode, "Left out: 1 video" in answer.stderr) == (1, True)
    assert call("run", video, "--out", tmp_path / "out").returncode == 3
    assert call("export", tmp_path / "out").returncode == 3
    [shard] = (tmp_path / "out" / "data").iterdir()
    held = shard.read_bytes()
    shutil.rmtree(tmp_path / "out" / "manifest")
    answer = call("export", tmp_path / "out")
    assert (answer.returncode, "lists no videos" in answer.stderr) == (1, True)
    assert shard.read_bytes() == held


def test_files_beside_videos_are_left_out_of_a_glob(video: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(video.read_bytes())
    for name in ("a.jpg", "a.info.json", "a.en.vtt"):
        (tmp_path / name).write_text("{}")
    answer = call("run", *tmp_path.iterdir(), "--out", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr


def test_figures_of_similar_names_have_distinct_files(video: Path, tmp_path: Path) -> None:
    for number in "12":
        (tmp_path / f"{'имя' * 25}{number}.mp4").write_bytes(video.read_bytes())
    assert call("run", tmp_path, "--out", tmp_path / "out").returncode == 0
    answer = call("report", tmp_path / "out", "--figures", "svg")
    assert len(set(answer.stdout.splitlines()[1:])) == 2


def test_a_closed_pipe_is_not_an_error(finished: Path) -> None:
    words = " ".join(map(shlex.quote, command("validate", str(finished))))
    answer = subprocess.run(
        f"{words} | head -1", shell=True, capture_output=True, text=True, check=False
    )
    assert answer.stderr == ""


def test_run_toml_is_accepted_as_a_configuration(finished: Path, tmp_path: Path) -> None:
    answer = call("run", "--out", finished, "--config", finished / "run.toml")
    assert answer.returncode == 0, answer.stderr


def test_wrong_settings_are_named(finished: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('video.strid = 4\nvideo.min_coverage = "1"\nvideo.stall_seconds = inf\n')
    answer = call("run", "--out", finished, "--config", config)
    assert answer.returncode == 2
    assert "video.strid: there is no such setting" in answer.stderr
    assert "video.min_coverage" in answer.stderr
    assert "video.stall_seconds" in answer.stderr


def test_doctor_reports_on_every_component(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    answer = call("doctor", "--out", tmp_path / "loop")
    for what in ("CPU", "decoding", "codecs", "encoder of clips", "GPU", "disk"):
        assert what in answer.stdout


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ('engine = "vlm"\nmodel = "x"', "model.engine: must be one of transformers, vllm, openai"),
        ('engine = "openai"\nmodel = "x"', "captioning.segments.model.urls: is missing"),
        ('model = "x"', "model.engine: is missing; it must be one of transformers"),
        ('engine = "openai"\nmodel = "x"\nurl = 1', "model.url: there is no such setting"),
    ],
)
def test_a_wrong_engine_is_named_as_in_the_file(
    settings: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"[captioning.segments.model]\n{settings}\n")
    with pytest.raises(ConfigError, match=complaint):
        load_config(path)


def test_profile_settings_do_not_apply_to_another_engine_or_model(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(
        '[aggregation.model]\nengine = "openai"\nmodel = "x"\nurls = ["http://localhost:1/v1"]\n'
        'tokenizer = "y"\n[captioning.segments.model]\nmodel = "mine"\n'
        '[metadata]\ntable = "t.csv"\n'
    )
    config, paper = load_config(path, "paper"), load_config(None, "paper")
    assert config.aggregation.model is not None
    assert config.aggregation.model.context_length is None
    assert config.captioning.segments is not None
    assert paper.captioning.segments is not None
    assert config.captioning.segments.model == paper.captioning.segments.model.model_copy(
        update={"model": "mine", "revision": None}
    )
    assert paper.aggregation.reasoning_effort == "medium"
    assert config.aggregation.reasoning_effort is None
    assert config.metadata.table == str(tmp_path / "t.csv")
    path.write_text("config = 1\n")
    with pytest.raises(ConfigError, match="must be a table"):
        load_config(path, "paper")


def test_local_models_and_keys_are_found_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "here" / "c.toml"
    path.parent.mkdir()
    (tmp_path / "here" / "tokenizer").mkdir()
    (tmp_path / "key").touch()
    (tmp_path / "qwen").mkdir()
    path.write_text(
        'segmentation.vjepa2.model = "some/name"\n[aggregation.model]\nengine = "openai"\n'
        'model = "qwen"\nurls = ["http://localhost:1/v1"]\ntokenizer = "tokenizer"\n'
        'key_file = "here/../key"\n'
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("here/c.toml"))
    assert config.segmentation.vjepa2.model == "some/name"
    assert isinstance(config.aggregation.model, OpenAIConfig)
    assert config.aggregation.model.model == "qwen"  # a name that the server knows
    assert config.aggregation.model.tokenizer == str(tmp_path / "here" / "tokenizer")
    assert config.aggregation.model.key_file == str(tmp_path / "key")
