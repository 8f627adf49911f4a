"""Stage 3 in a run: real model classes, a real server, and servers that violate the schema."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import action100m
from action100m.config import AggregationConfig, Config, OpenAIConfig, parse_config
from action100m.dataset.validate import validate
from action100m.errors import ConfigError
from action100m.report.of_run import report_run
from action100m.runs.folder import RunFolder
from action100m.runs.status import describe_run
from servers import MODEL, Call, serve
from synthetic import write_video

pytest.importorskip("httpx")
pytest.importorskip("tokenizers")

ANSWER = {
    "summary": {"brief": "A disc moves.", "detailed": "A disc moves over a plain ground."},
    "action": {"brief": "n/a", "detailed": "Nobody acts.", "actor": "N/A"},
}


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tokenizer.json of a byte-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: k for k, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return folder


def configured(url: str, model: dict[str, Any], **changes: Any) -> Config:
    captioner = {"model": {"engine": "openai", "model": MODEL, "urls": [url], "concurrency": 8}}
    captioning = {"frames": 2, "side": 32, "segments": captioner, "leaves": captioner}
    aggregation = {"model": model, "rounds": 1, "max_tokens": 600, **changes}
    return parse_config({"captioning": captioning, "aggregation": aggregation}, "test")


def served(url: str, tokenizer: Path, **changes: Any) -> Config:
    model = {"engine": "openai", "model": MODEL, "urls": [url], "concurrency": 8}
    return configured(url, {**model, "tokenizer": str(tokenizer)}, **changes)


def run(videos: Path, out: Path, config: Config) -> int:
    console = Console(file=io.StringIO(), width=200)
    return action100m.run([videos], out, config, workers=2, console=console).exit_code


def annotated(out: Path) -> list[dict[str, Any] | None]:
    """Return `gpt` of the nodes that should have one; the others must have none."""
    found = []
    for row in pq.read_table(sorted((out / "data").glob("*.parquet"))).to_pylist():
        parents = {node["parent_id"] for node in row["nodes"]}
        for node in row["nodes"]:
            lasts = round(node["end"] - node["start"], 2) >= 4
            if node["node_id"] in parents and lasts:
                found.append(node["gpt"])
            else:
                assert node["gpt"] is None
    return found


def report_share(name: str, found: list[Any], capsys: pytest.CaptureFixture[str]) -> float:
    """Print, also for a test that passes, how many nodes are annotated and how many null."""
    share = sum(gpt is not None for gpt in found) / len(found)
    with capsys.disabled():
        print(f"\n{name}: of {len(found)} nodes {share:.0%} annotated, {1 - share:.0%} null")
    return share


def speaking(answer: Callable[[Call], None]) -> Callable[[Call], None]:
    """Reply with captions, or with `answer` if an annotation is requested."""

    def both(call: Call) -> None:
        if call.body["messages"][0]["role"] == "system":
            answer(call)
        else:
            call.complete("A disc moves.")

    return both


def test_exactly_the_nodes_of_the_format_are_annotated(
    videos: Path, tokenizer: Path, tmp_path: Path
) -> None:
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, calls):
        assert run(videos, tmp_path, served(url, tokenizer)) == 0
    found = annotated(tmp_path)
    assert found
    expected = json.loads(json.dumps(ANSWER))
    expected["action"] |= {"brief": "N/A", "detailed": "N/A"}
    assert all(gpt == expected for gpt in found)
    asked = [call for call in calls if call.body["messages"][0]["role"] == "system"]
    assert len(asked) == 2 * len(found)
    assert all("response_format" in call.body for call in asked)
    assert validate([tmp_path / "data"]).ok
    status = "\n".join(describe_run(tmp_path))
    assert "aggregate done" in status
    count = f"{len(found):,}"
    assert f"annotated: {count} of {count} segments (100.0%) in {count} rounds after" in status
    assert f"tokens: {14 * len(found):,} read ({8 * len(found):,} of them cached)" in status
    assert "null" not in status
    metadata = pq.read_schema(next((tmp_path / "data").iterdir())).metadata
    assert metadata[b"action100m.gpt.model"] == MODEL.encode()


def test_every_stage_counts_whole_videos(videos: Path, tokenizer: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, _):
        action100m.run([videos], tmp_path, served(url, tokenizer), workers=2, console=console)
    pattern = r"(\w+): 5/5 videos, ([\d.]+) videos/s, ([\d.]+) video-seconds/s"
    rates = re.findall(pattern, console.file.getvalue())
    assert [stage for stage, *_ in rates] == ["segment", "caption", "aggregate"]
    for _, per_second, seconds in rates:
        assert float(seconds) / float(per_second) == pytest.approx(3.96, rel=0.15)


def test_the_model_receives_the_transcript(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / "crane.mp4", [3.0, 3.0])
    video.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nFold the wings.\n")
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, calls):
        assert run(video.parent, tmp_path / "out", served(url, tokenizer)) == 0
    asked = [call for call in calls if call.body["messages"][0]["role"] == "system"]
    assert asked
    sent = [json.dumps(call.body["messages"], ensure_ascii=False) for call in asked]
    assert all(r"1.0s \"Fold the wings.\"" in text for text in sent)


def test_the_report_shows_draft_and_rounds(videos: Path, tokenizer: Path, tmp_path: Path) -> None:
    def answer(call: Call) -> None:
        later = len(call.body["messages"]) > 2
        brief = "A disc <b>moves</b>." if later else "A first try."
        call.complete(json.dumps({**ANSWER, "summary": {**ANSWER["summary"], "brief": brief}}))

    with serve(speaking(answer)) as (url, _):
        run(videos, tmp_path, served(url, tokenizer, keep_rounds=True))
    page = report_run(RunFolder(tmp_path)).read_text("utf-8")
    assert page.index("draft") < page.index("A first try.") < page.index("A disc &lt;b&gt;moves")
    assert "tokens:" in page
    assert "The dataset" in page
    assert '<figure role="img"' in page
    assert "<b>moves</b>" not in page


def test_a_run_says_which_rounds_it_no_longer_has(
    videos: Path, tokenizer: Path, tmp_path: Path
) -> None:
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, calls):
        run(videos, tmp_path, served(url, tokenizer))
        before = len(calls)
        console = Console(file=io.StringIO(), width=200)
        config = served(url, tokenizer, keep_rounds=True)
        for _ in range(2):
            action100m.run([], tmp_path, config, console=console)
    assert len(calls) == before
    assert console.file.getvalue().count("rounds that were not kept are not asked for again") == 1


def test_the_report_shows_the_cost_of_each_video(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name, seconds in {"long": 6.0, "short": 2.5}.items():
        write_video(tmp_path / "videos" / f"{name}.mp4", [seconds, seconds])

    def answer(call: Call) -> None:
        wrong = len(call.body["messages"]) == 2
        call.complete("What?" if wrong else json.dumps(ANSWER))

    with serve(speaking(answer)) as (url, calls):
        assert run(tmp_path / "videos", tmp_path / "out", served(url, tokenizer)) == 0
    asked = [call for call in calls if call.body["messages"][0]["role"] == "system"]
    page = report_run(RunFolder(tmp_path / "out")).read_text("utf-8")
    table = page[page.index("<summary>aggregate") :]
    rows = re.findall(r"<bdi>(\w+)</bdi></th>((?:<td>[\d,]+</td>){6})", table)
    spent = {name: [int(n) for n in re.findall(r"\d+", cells)] for name, cells in rows}
    assert list(spent) == ["long", "short"]  # the most expensive first
    for read, cached, written, rounds, retries, shortened in spent.values():
        requests = read // 7
        assert (cached, written) == (4 * requests, 2 * requests)
        assert shortened == 0
        assert rounds == retries == requests // 3  # a draft, its correction, one round
    assert sum(read for read, *_ in spent.values()) == 7 * len(asked)


def test_a_server_that_ignores_the_schema(
    videos: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(call: Call) -> None:
        corrected = "cannot be used" in call.text
        if corrected and call.number % 3:
            call.complete(f"Sure!\n```json\n{json.dumps(ANSWER)}\n```")
        else:
            call.complete(["I would rather chat.", '{"summary": "short"}', "[]"][call.number % 3])

    with serve(speaking(answer)) as (url, _):
        code = run(videos, tmp_path, served(url, tokenizer, max_failed=1.0))
    assert code == 0
    found = annotated(tmp_path)
    assert report_share("a server that ignores the schema", found, capsys) > 0
    assert all(gpt is None or gpt["summary"] == ANSWER["summary"] for gpt in found)
    assert validate([tmp_path / "data"]).ok


def test_aggregation_without_captioning_is_an_error(
    videos: Path, tokenizer: Path, tmp_path: Path
) -> None:
    config = served("http://127.0.0.1:9/v1", tokenizer)
    alone = config.model_copy(update={"captioning": Config().captioning})
    with pytest.raises(ConfigError, match=r"\[aggregation\] needs captions"):
        run(videos, tmp_path, alone)


@pytest.mark.parametrize(
    ("model", "missing", "error"),
    [
        ({"engine": "openai", "urls": ["http://localhost:1/v1"]}, "", "set `tokenizer` to its"),
        ({"engine": "transformers"}, "llguidance", r"pip install 'action100m\[transformers\]'"),
        ({"engine": "vllm"}, "vllm", r"not installed \(vllm\): pip install 'action100m\[vllm\]'"),
    ],
    ids=["tokenizer", "llguidance", "vllm"],
)
def test_missing_requirements_are_reported_before_any_work(
    model: dict[str, Any],
    missing: str,
    error: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    config = configured("http://127.0.0.1:9/v1", {**model, "model": "some/model"})
    with pytest.raises(ConfigError, match=error):
        run(videos, tmp_path, config)
    assert not (tmp_path / "parts").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gpt_oss", "qwen3"])
def test_real_model_classes_annotate_with_a_grammar(
    name: str, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("llguidance")
    tiny_models = pytest.importorskip("tiny_models", exc_type=ImportError)
    path = tiny_models.MAKERS[name](tmp_path / name)
    model = {"engine": "transformers", "model": str(path), "device": "cpu"}
    with serve(speaking(Call.drop)) as (url, _):
        config = configured(
            url,
            {**model, "precision": "float32"},
            temperature=1.0,
            max_failed=1.0,
            prompt_tokens=7000,
        )
        assert run(videos, tmp_path / "run", config) == 0
    found = annotated(tmp_path / "run")
    assert report_share(name, found, capsys) > 0.5
    assert validate([tmp_path / "run" / "data"]).ok


@pytest.mark.filterwarnings("ignore")
def test_llama_server_follows_the_schema(
    videos: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    tiny_gguf = pytest.importorskip("tiny_gguf", exc_type=ImportError)
    with (
        serve(speaking(Call.drop)) as (captions, _),
        tiny_gguf.llama_server(tmp_path / "gguf") as url,
    ):
        model = {"engine": "openai", "model": "tiny", "urls": [url], "concurrency": 2}
        model |= {"tokenizer": str(tokenizer), "context_length": 4096}
        config = configured(
            captions, model, temperature=1.0, max_failed=1.0, rounds=0, prompt_tokens=3400
        )
        assert run(videos, tmp_path / "run", config) == 0
    found = annotated(tmp_path / "run")
    assert report_share("llama.cpp's server", found, capsys) > 0
    assert validate([tmp_path / "run" / "data"]).ok


def test_annotating_needs_no_video_files(videos: Path, tokenizer: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(videos, tmp_path / "videos"))
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, _):
        config = served(url, tokenizer)
        without = config.model_copy(update={"aggregation": AggregationConfig()})
        assert run(own, tmp_path / "run", without) == 0
        shutil.rmtree(own)
        own.mkdir()
        console = Console(file=io.StringIO())
        assert action100m.run([], tmp_path / "run", config, console=console).exit_code == 0
    assert all(annotated(tmp_path / "run"))


def test_a_tokenizer_ignores_saved_truncation_and_padding(tokenizer: Path, tmp_path: Path) -> None:
    pytest.importorskip("tenacity")
    from tokenizers import Tokenizer  # noqa: PLC0415

    from action100m.inference.openai import load_tokenizer  # noqa: PLC0415

    for saved in ("truncation", "padding"):
        made = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        made.enable_truncation(16) if saved == "truncation" else made.enable_padding(length=500)
        made.save(str(tmp_path / "tokenizer.json"))
        model = {
            "engine": "openai",
            "model": MODEL,
            "urls": ["http://x"],
            "tokenizer": str(tmp_path),
        }
        loaded = load_tokenizer(OpenAIConfig.model_validate(model))
        assert len(loaded.encode("x" * 77).ids) == 78  # with a space before it


def test_a_finished_run_needs_no_key(
    videos: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with serve(speaking(lambda call: call.complete(json.dumps(ANSWER)))) as (url, _):
        model = {"engine": "openai", "model": MODEL, "urls": [url], "key_variable": "MY_KEY"}
        config = configured(url, {**model, "tokenizer": str(tokenizer)})
        assert run(videos, tmp_path, config) == 0
    monkeypatch.delenv("MY_KEY")
    assert run(videos, tmp_path, config) == 0


def test_invalid_tokenizers_and_keys_are_reported_before_any_work(
    videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for wrong in ({"tokenizer": str(tmp_path)}, {"tokenizer": "no/", "key_file": "no/such/key"}):
        model = {"engine": "openai", "model": MODEL, "urls": ["http://127.0.0.1:9/v1"], **wrong}
        with pytest.raises(ConfigError, match=r"is not a tokenizer|Cannot read the key"):
            run(videos, tmp_path / "run", configured("http://127.0.0.1:9/v1", model))
    assert not (tmp_path / "run" / "parts").exists()
