"""Measure the overhead of stage 3: CPU time per request, without the model.

A mock engine answers immediately; prompts, keys, journal, parsing and the part are real. `ours` is
milliseconds of CPU per request, for draft and three rounds of about 1,000 segments; the limit is 5.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from action100m.aggregation.stage import VideoAggregator, annotated_nodes
from action100m.config import AggregationConfig
from action100m.inference import Feed, Outcome, Request, Result
from captioned import Writer, draw_videos
from harness import finish, parse_arguments, print_table

_MODEL = {"engine": "openai", "model": "stand-in", "urls": ["http://localhost:1/v1"]}
_LIMIT = 5.0


class AtOnce:
    """Answers every request with the same annotation."""

    capacity = 64
    context_length = None

    def __init__(self) -> None:
        self.requests = 0
        self._answer = Writer(0).annotation()

    def submit(self, request: Request) -> Future[Result]:
        self.requests += 1
        future: Future[Result] = Future()
        future.set_result(Result(request.id, Outcome.COMPLETE, self._answer))
        return future

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) // 4 for text in texts]


def main() -> None:
    """Measure and print."""
    full = parse_arguments(__doc__).full
    videos = list(draw_videos(40 if full else 12))
    engine = AtOnce()
    config = AggregationConfig.model_validate({"model": _MODEL, "prompt_tokens": 120_000})
    aggregator = VideoAggregator(config, Feed(engine))
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        for number, video in enumerate(videos):
            journal = Path(folder) / str(number)
            aggregator.aggregate(str(number), video, lambda seconds, whole: None, journal, {})
        ours = 1000 * (time.process_time() - start) / engine.requests
    segments = sum(len(annotated_nodes(video.tree)) for video in videos)
    print_table(["what", "milliseconds of CPU a request"], [["action100m", ours]])
    print(f"{segments} segments, {engine.requests} requests")
    finish(
        "aggregation_cost",
        ours=ours,
        rival=_LIMIT,
        ratio=ours / _LIMIT,
        unit="ms per request",
        limit=_LIMIT,
    )


if __name__ == "__main__":
    main()
