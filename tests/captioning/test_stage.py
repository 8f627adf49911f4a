from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from action100m.captioning.frames import choose_frames
from action100m.captioning.stage import CaptionsMissingError, VideoCaptioner
from action100m.config import (
    Config,
    LeafCaptionerConfig,
    SegmentCaptionerConfig,
    parse_config,
)
from action100m.inference import EngineStoppedError, Feed, Outcome, Request, Result
from action100m.inference.answers import Answer, Journal, final_answers, texts
from action100m.segmentation.stage import Segmentation, segment_file
from action100m.tree import Tree
from action100m.video import Decoder, DecoderPool, FrameSpec
from engines import EchoEngine, complete, describe, seen
from synthetic import write_video

MODEL = {"engine": "openai", "model": "echo", "urls": ["http://localhost:1/v1"]}


def configured(**changes: object) -> Config:
    captioning = {"segments": {"model": MODEL}, "leaves": {"model": MODEL}, "side": 32, **changes}
    return parse_config({"captioning": captioning}, "test")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", [2.5, 1.5, 4.0, 3.0])


@pytest.fixture(scope="module")
def segmentation(video: Path) -> Segmentation:
    return segment_file(video, Config())


def caption(
    video: Path,
    segmentation: Segmentation,
    engine: EchoEngine,
    journal: Path,
    config: Config | None = None,
    known: dict[str, Answer] | None = None,
    tree: Tree | None = None,
) -> pa.Table:
    config = config or configured()
    feed = Feed(engine)
    with DecoderPool([Decoder()]) as pool:
        captioner = VideoCaptioner(config, {"segments": feed, "leaves": feed}, pool)
        return captioner.caption(
            video,
            tree or segmentation.tree(config.cut),
            segmentation.times,
            lambda seconds, whole: None,
            journal,
            known or {},
        )


def test_each_caption_belongs_to_the_node_whose_frames_were_shown(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    part = caption(video, segmentation, EchoEngine(), tmp_path)
    tree = segmentation.tree(Config().cut)
    with Decoder() as decoder:
        batches = list(decoder.open(video, FrameSpec(4, 32, "stretch")))
    pixels = np.concatenate([batch.pixels for batch in batches])
    shown = [
        describe(list(pixels[frames]))
        for frames in choose_frames(segmentation.times, tree.start, tree.end, 32)
    ]
    segments = SegmentCaptionerConfig.model_validate({"model": MODEL})
    leaves = LeafCaptionerConfig.model_validate({"model": MODEL})
    assert texts(part, "plm_caption", len(tree)).to_pylist() == [
        f"{frames} | {segments.prompt}" for frames in shown
    ]
    assert texts(part, "plm_action", len(tree)).to_pylist() == [
        f"{frames} | {segments.action_prompt}" for frames in shown
    ]
    middles = choose_frames(segmentation.times, tree.start, tree.end, 1)
    assert texts(part, "llama3_caption", len(tree)).to_pylist() == [
        f"{describe(list(pixels[middle]))} | {leaves.prompt}" if leaf else None
        for middle, leaf in zip(middles, tree.is_leaf, strict=True)
    ]


def test_an_interrupted_video_resumes(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    whole = caption(video, segmentation, EchoEngine(), tmp_path / "whole")
    answered = threading.Semaphore(9)

    def stop_later(request: Request) -> Result | BaseException:
        if answered.acquire(blocking=False):
            return complete(request, describe_request(request))
        return EngineStoppedError("No server is up.")

    def describe_request(request: Request) -> str:
        return EchoEngine()._answer(request).text  # type: ignore[union-attr]

    journal = tmp_path / "journal"
    with pytest.raises(EngineStoppedError):
        caption(video, segmentation, EchoEngine(stop_later), journal)
    kept = Journal(journal).read()
    assert 0 < len(kept) <= 9
    engine = EchoEngine()
    assert caption(video, segmentation, engine, journal).equals(whole)
    assert len(engine.requests) == len(whole) - len(kept)


def test_a_recut_tree_reuses_the_captions_of_unchanged_segments(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    config = configured()
    part = caption(video, segmentation, EchoEngine(), tmp_path / "a")
    engine = EchoEngine()
    recut = segmentation.tree(config.cut.model_copy(update={"min_duration": 1.0}))
    assert len(recut) < len(segmentation.tree(config.cut))
    again = caption(
        video, segmentation, engine, tmp_path / "b", known=final_answers(part), tree=recut
    )
    old = set(zip(part["field"].to_pylist(), part["text"].to_pylist(), strict=True))
    new = list(zip(again["field"].to_pylist(), again["text"].to_pylist(), strict=True))
    asked = [pair for pair in new if pair not in old]
    assert len(engine.requests) == len(asked) < len(new)


def test_frames_in_flight_stay_within_the_budget(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    whole = caption(video, segmentation, EchoEngine(), tmp_path / "whole")
    frame = 32 * 32 * 3
    config = configured(memory_gib=40 * frame / 2**30)
    engine = EchoEngine(capacity=1000, seconds=0.5)
    feed, held = Feed(engine), []
    with DecoderPool([Decoder()]) as pool:
        captioner = VideoCaptioner(config, {"segments": feed, "leaves": feed}, pool)

        def note(request: Request) -> Result:
            held.append(captioner._budget._used)
            engine.requests.clear()  # it keeps them, and thus their frames, for tests to inspect
            return complete(request, seen(request))

        engine._answer = note
        part = captioner.caption(
            video,
            segmentation.tree(config.cut),
            segmentation.times,
            lambda seconds, whole: None,
            tmp_path / "part",
            {},
        )
    assert part.equals(whole)
    assert max(held) <= (40 + 32 + 1) * frame  # the budget, a clip, and the last frame


def test_outcomes_are_distinguished(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    outcomes = list(Outcome)

    def answer(request: Request) -> Result:
        outcome = outcomes[int(request.id[:8], 16) % len(outcomes)]
        text = "words" if outcome in (Outcome.COMPLETE, Outcome.TRUNCATED) else ""
        return Result(request.id, outcome, text, "" if text else f"It was {outcome.value}.")

    config = configured(max_failed=1.0, attempts=3)
    engine = EchoEngine(answer)
    rows = caption(video, segmentation, engine, tmp_path, config).to_pylist()
    for row in rows:
        expected = outcomes[int(row["key"][:8], 16) % len(outcomes)]
        assert row["outcome"] == expected.value
        answered = expected in (Outcome.COMPLETE, Outcome.TRUNCATED)
        assert (row["text"] == "words") == answered
        assert row["reason"] == ("" if answered else f"It was {expected.value}.")
    asked = Counter(request.id.split("/")[0] for request in engine.requests)
    again = {row["key"]: row["outcome"] in ("failed", "empty") for row in rows}
    assert all(count == (3 if again[key] else 1) for key, count in asked.items())
    seeds = {request.sampling.seed for request in engine.requests}
    assert seeds == {0, 1, 2}


def test_too_many_missing_captions_fail_the_video(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    def answer(request: Request) -> Result:
        return Result(request.id, Outcome.FAILED, reason="The server is on fire.")

    with pytest.raises(CaptionsMissingError, match=r"captions are missing.*on fire"):
        caption(video, segmentation, EchoEngine(answer), tmp_path)


def test_a_truncated_journal_line_loses_one_answer(
    video: Path, segmentation: Segmentation, tmp_path: Path
) -> None:
    whole = caption(video, segmentation, EchoEngine(), tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    engine = EchoEngine()
    assert caption(video, segmentation, engine, tmp_path).equals(whole)
    assert len(engine.requests) == 1
    assert caption(video, segmentation, EchoEngine(), tmp_path).equals(whole)
