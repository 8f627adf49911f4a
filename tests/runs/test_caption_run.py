"""Stage 2 in a run, against real servers and real model classes."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import action100m
from action100m.config import Config, parse_config
from action100m.config_file import load_config
from action100m.dataset.validate import validate
from action100m.errors import ConfigError, RunStoppedError
from action100m.report import of_run
from action100m.report.data import ReportedVideo
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.status import describe_run
from command import call, command
from servers import MODEL, Call, serve
from synthetic import write_video

pytest.importorskip("httpx")

LEAF = "1 pictures: Describe this image in detail."


def configured(url: str, **changes: Any) -> Config:
    model = {"engine": "openai", "model": MODEL, "urls": [url], "concurrency": 8, "attempts": 2}
    captioning = {"frames": 4, "side": 32, "segments": {"model": model}, "leaves": {"model": model}}
    return parse_config({"captioning": captioning, **changes}, "test")


def caption(call: Call) -> None:
    """Reply with the number of pictures and the prompt, late and out of order."""
    time.sleep(random.random() / 50)
    pictures = sum(item["type"] == "image_url" for item in call.body["messages"][0]["content"])
    call.complete(f"{pictures} pictures: {call.text}")


def run(videos: Path, out: Path, config: Config) -> tuple[int, str]:
    text = io.StringIO()
    console = Console(file=text, width=200)
    result = action100m.run([videos], out, config, workers=2, console=console)
    return result.exit_code, text.getvalue()


def nodes(out: Path) -> list[dict[str, Any]]:
    table = pq.read_table(sorted((out / "data").glob("*.parquet")))
    return [node for row in table.to_pylist() for node in row["nodes"]]


def test_every_node_has_the_fields_of_the_format(videos: Path, tmp_path: Path) -> None:
    with serve(caption) as (url, calls):
        assert run(videos, tmp_path, configured(url))[0] == 0
        assert run(videos, tmp_path, configured(url))[0] == 0
    found = nodes(tmp_path)
    parents = {node["parent_id"] for node in found}
    for node in found:
        leaf = node["node_id"] not in parents
        assert "pictures: Describe this video in detail." in node["plm_caption"]
        assert "pictures: Name the main action" in node["plm_action"]
        assert node["llama3_caption"] == (LEAF if leaf else None)
        assert node["gpt"] is None
    leaves = len(found) - len(parents - {None})
    assert len(calls) == 2 * len(found) + leaves
    assert validate([tmp_path / "data"]).ok
    metadata = pq.read_schema(next((tmp_path / "data").iterdir())).metadata
    assert metadata[b"action100m.plm_caption.model"] == MODEL.encode()
    status = "\n".join(describe_run(tmp_path))
    assert "caption   done" in status
    assert f"answers: {len(calls):,} complete" in status
    assert f"{7 * len(calls):,} read" in status


def test_another_cut_requests_only_new_segments(videos: Path, tmp_path: Path) -> None:
    with serve(caption) as (url, calls):
        run(videos, tmp_path, configured(url))
        first = len(calls)
        run(videos, tmp_path, configured(url, cut={"min_duration": 0.9}))
        assert len(nodes(tmp_path)) > 5
        again = len(calls) - first
        fresh = configured(url, cut={"min_duration": 0.9})
        run(videos, tmp_path / "fresh", fresh)
        whole = len(calls) - first - again
    assert again < whole / 2
    assert nodes(tmp_path) == nodes(tmp_path / "fresh")


def test_with_a_model_only_for_leaves_other_fields_are_null(videos: Path, tmp_path: Path) -> None:
    with serve(caption) as (url, _):
        config = configured(url)
        alone = config.captioning.model_copy(update={"segments": None})
        _, _text = run(videos, tmp_path, config.model_copy(update={"captioning": alone}))
    assert any(node["llama3_caption"] for node in nodes(tmp_path))
    assert all(node["plm_caption"] is None for node in nodes(tmp_path))
    status = "\n".join(describe_run(tmp_path))
    assert "plm_caption, plm_action, gpt: null, as no model" in status


def test_a_server_that_rejects_everything_fails_videos_not_the_run(
    videos: Path, tmp_path: Path
) -> None:
    def answer(call: Call) -> None:
        call.reply(400, json.dumps({"error": {"message": "I will not."}}))

    with serve(answer) as (url, _):
        config = configured(url)
        code, _ = run(videos, tmp_path, config)
        assert code == 1
        status = "\n".join(describe_run(tmp_path))
        assert "captions are missing" in status
        assert "I will not." in status
        assert all(node["plm_caption"] is None for node in nodes(tmp_path))
    with serve(caption) as (url, _):
        good = configured(url)
        assert run(videos, tmp_path, good)[0] == 0


def test_answers_for_failed_videos_are_counted_too(videos: Path, tmp_path: Path) -> None:
    def answer(call: Call) -> None:
        if "Name the main action" in call.text:
            call.reply(400, json.dumps({"error": {"message": "I will not."}}))
        else:
            caption(call)

    with serve(answer) as (url, calls):
        assert run(videos, tmp_path, configured(url))[0] == 1
    status = "\n".join(describe_run(tmp_path))
    count = sum("Name the main action" not in call.text for call in calls)
    assert re.search(rf"kept for \d unfinished videos: answers: {count} complete", status)
    assert f"unfinished videos: tokens: {7 * count:,} read" in status


def test_the_report_shows_failures_of_any_stage(videos: Path, tmp_path: Path) -> None:
    with serve(lambda call: call.complete("")) as (url, _):
        assert run(videos, tmp_path, configured(url))[0] == 1
    seen: list[ReportedVideo] = []
    view = of_run._View(RunFolder(tmp_path))
    seen += view.videos()
    assert {video.state for video in seen} == {"failed"}
    assert all("captions are missing" in video.reason for video in seen)
    assert all(video.tree is not None and video.duration for video in seen)
    page = of_run.report_run(RunFolder(tmp_path)).read_text()
    assert "captions are missing" in page


def test_a_wrong_key_stops_the_run_and_fails_no_video(videos: Path, tmp_path: Path) -> None:
    with (
        serve(lambda call: call.reply(401, "{}")) as (url, _),
        pytest.raises(RunStoppedError, match="does not accept the key"),
    ):
        run(videos, tmp_path, configured(url))
    assert "failed" not in "\n".join(describe_run(tmp_path))


def test_only_a_run_that_would_ask_needs_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    write_video(tmp_path / "here" / "a.mp4", [0.6])
    out = tmp_path / "run"
    monkeypatch.setenv("THE_KEY", "secret")
    with serve(caption) as (url, _):
        model = {"engine": "openai", "model": MODEL, "urls": [url], "key_variable": "THE_KEY"}
        captioning = {"frames": 4, "side": 32, "segments": {"model": model}}
        run(tmp_path / "here", out, parse_config({"captioning": captioning}, "test"))
    monkeypatch.delenv("THE_KEY")
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert action100m.run(moved, out).exit_code == 0
    for inputs in ([moved], []):
        write_video(moved / "a.mp4", [1.6])
        with pytest.raises(ConfigError, match="THE_KEY holds no key"):
            action100m.run(inputs, out)
        assert Manifest(RunFolder(out)).videos[0].size != (moved / "a.mp4").stat().st_size


def test_a_killed_run_repeats_few_requests(videos: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    with serve(caption) as (url, calls):
        settings.write_text(
            f"""
            [captioning]
            frames = 4
            side = 32
            [captioning.segments.model]
            engine = "openai"
            model = "{MODEL}"
            urls = ["{url}"]
            concurrency = 4
            """
        )
        words = ["run", videos, "--config", settings, "--workers", "1", "--out"]
        assert call(*words, tmp_path / "whole").returncode == 0
        whole = len(calls)
        for wait in (1.2, 1.5, 1.8, 2.1):
            process = subprocess.Popen(
                command(*words, tmp_path / "run"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert call(*words, tmp_path / "run").returncode == 0
        asked = len(calls) - whole
    assert nodes(tmp_path / "run") == nodes(tmp_path / "whole")
    assert asked <= whole + 5 * 4 * 2  # requests that were pending when it was killed


def tiny(name: str, folder: Path) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    tiny_models = pytest.importorskip("tiny_models", exc_type=ImportError)
    pytest.importorskip("torchvision", exc_type=ImportError)  # image processors need it
    pytest.importorskip("timm")
    path: Path = tiny_models.MAKERS[name](folder / name)
    return path


def with_tiny(segments: Path | None, leaves: Path | None, tokens: int) -> Config:
    def captioner(path: Path) -> dict[str, Any]:
        model = {"engine": "transformers", "model": str(path), "device": "cpu"}
        return {"model": {**model, "precision": "float32"}, "max_tokens": tokens}

    captioning: dict[str, Any] = {"frames": 4, "side": 64, "max_failed": 1.0}
    if segments is not None:
        captioning["segments"] = captioner(segments)
    if leaves is not None:
        captioning["leaves"] = captioner(leaves)
    return parse_config({"captioning": captioning}, "test")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("segments", "leaves"),
    [("perception_lm", "mllama"), ("qwen3_vl", "qwen3_vl"), ("smolvlm", "smolvlm")],
)
def test_real_model_classes_caption_real_videos(
    segments: str, leaves: str, videos: Path, shared: Path, tmp_path: Path
) -> None:
    own = tmp_path / "videos"
    shutil.copytree(shared / "videos", own)
    config = with_tiny(tiny(segments, tmp_path), tiny(leaves, tmp_path), tokens=8)
    assert run(own, tmp_path / "run", config)[0] == 0
    found = nodes(tmp_path / "run")
    parents = {node["parent_id"] for node in found}
    assert sum(node["plm_caption"] is None for node in found) < len(found) / 10
    assert all(node["llama3_caption"] is None for node in found if node["node_id"] in parents)
    assert sum(node["llama3_caption"] is not None for node in found) > len(found) / 3
    assert validate([tmp_path / "run" / "data"]).ok
    metadata = pq.read_schema(next((tmp_path / "run" / "data").iterdir())).metadata
    assert metadata[b"action100m.plm_caption.model"].startswith(f"{segments} sha256:".encode())
    assert metadata[b"action100m.llama3_caption.model"].startswith(f"{leaves} sha256:".encode())


@pytest.mark.filterwarnings("ignore")
def test_the_small_profile_captions_on_a_cpu(videos: Path, tmp_path: Path) -> None:
    path = tiny("smolvlm", tmp_path)
    settings = tmp_path / "settings.toml"
    settings.write_text(
        "[captioning]\nside = 32\n"
        + "".join(
            f'[captioning.{role}]\nmax_tokens = 5\n[captioning.{role}.model]\nmodel = "{path}"\n'
            for role in ("segments", "leaves")
        )
    )
    with settings.open("a") as file:
        path = tiny("qwen3", tmp_path)
        file.write("[aggregation]\nmax_failed = 1\nmax_tokens = 600\ntemperature = 1.0\n")
        file.write(f'model.model = "{path}"\n')
    config = load_config(settings, "small")
    assert (config.captioning.frames, config.aggregation.rounds) == (8, 1)
    assert run(videos, tmp_path / "run", config)[0] == 0
    assert all(node["plm_caption"] for node in nodes(tmp_path / "run"))
    assert any(node["gpt"] for node in nodes(tmp_path / "run"))


@pytest.mark.filterwarnings("ignore")
def test_llama_server_captions_real_videos(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    tiny_gguf = pytest.importorskip("tiny_gguf", exc_type=ImportError)
    own = tmp_path / "videos"
    own.mkdir()
    for name in ("skv_bikes.mp4", "mma_test.avi", "asl/book.mkv"):
        shutil.copy(shared / "videos" / name, own)
    with tiny_gguf.llama_server(tmp_path / "gguf") as url:
        config = configured(url)
        captioning = {
            role: asker.model_copy(update={"max_tokens": 12})
            for role in ("segments", "leaves")
            if (asker := getattr(config.captioning, role))
        }
        captioning["max_failed"] = 1.0
        config = config.model_copy(
            update={"captioning": config.captioning.model_copy(update=captioning)}
        )
        assert run(own, tmp_path / "run", config)[0] == 0
    found = nodes(tmp_path / "run")
    assert sum(node["plm_caption"] is not None for node in found) > 0.9 * len(found)
    assert validate([tmp_path / "run" / "data"]).ok


def test_a_run_can_be_interrupted_while_the_model_answers(videos: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    thinking = threading.Event()

    def think(call: Call) -> None:
        if call.number >= 3:
            thinking.set()
            time.sleep(3)
        caption(call)

    with serve(think) as (url, calls):
        settings.write_text(
            f"""
            [captioning.segments.model]
            engine = "openai"
            model = "{MODEL}"
            urls = ["{url}"]
            concurrency = 2
            key_variable = "MY_KEY"
            """
        )
        words = command("run", videos, "--config", settings, "--out", tmp_path / "run")
        environment = {**os.environ, "MY_KEY": "sk-very-secret"}
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert thinking.wait(60)
            journal = tmp_path / "run" / "journal" / "caption"
            while not list(journal.rglob("answers.jsonl")):  # of the calls before
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, text = process.communicate(timeout=20)
        assert process.returncode == 130, text
        assert list(journal.rglob("answers.jsonl"))
    assert calls[0].headers["Authorization"] == "Bearer sk-very-secret"
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(b"sk-very-secret" in path.read_bytes() for path in kept)


def test_tokens_are_counted_once_for_segments_of_the_same_frames(
    videos: Path, tmp_path: Path
) -> None:
    with serve(caption) as (url, calls):
        config = configured(url)
        captioning = config.captioning.model_copy(update={"frames": 1})
        run(videos, tmp_path, config.model_copy(update={"captioning": captioning}))
    described = list(describe_run(tmp_path))
    assert f"tokens: {7 * len(calls)} read" in "\n".join(described)
    # Parts of an early version have no costs in their footers.
    for part in (tmp_path / "parts" / "caption").rglob("*.parquet"):
        pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    assert list(describe_run(tmp_path)) == described


def test_servers_that_are_down_stop_the_run_and_fail_no_video(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(RunStoppedError, match=r"does not answer.*Finished work is kept"):
        run(videos, tmp_path, configured("http://127.0.0.1:9/v1"))
    assert "failed" not in "\n".join(describe_run(tmp_path))
