"""Measure how busy stage 2 keeps an engine: 50 videos of very different lengths, one engine.

The engine is a mock with 64 slots that takes half a second per request; the stage, its decoders,
frames and journal are real. `ours` is the share of slots that are busy from the first to the last
submission; the limit is 0.95. `rival` processes one video after the other, waiting for the last
answer of each, as a loop over videos would.
"""

from __future__ import annotations

import heapq
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import av
import numpy as np
from rich.console import Console

from action100m.captioning.stage import VideoCaptioner
from action100m.config import Config
from action100m.inference import Feed, Outcome, Request, Result
from action100m.runs.caption_stage import CaptionStage, caption_stage_identity
from action100m.runs.executors.local import run_stage
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.progress import StageProgress
from action100m.runs.run import run
from action100m.runs.settings import Settings, read_settings
from action100m.video import Decoder, DecoderPool
from harness import finish, parse_arguments, print_table

_SLOTS, _SECONDS = 64, 0.5
_VIDEOS = 50
_WORKERS = 2
_MODEL = {"engine": "openai", "model": "stand-in", "urls": ["http://localhost:1/v1"]}


class StandIn:
    """A mock engine: 64 slots, half a second per request; records when the slots are busy."""

    capacity = -(-5 * _SLOTS // 4)
    context_length = None

    def __init__(self) -> None:
        self.submitted: list[float] = []
        self.busy: list[tuple[float, float]] = []
        self._ends: list[float] = [0.0] * _SLOTS
        self._due: list[tuple[float, int, Request, Future[Result]]] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, request: Request) -> Future[Result]:
        future: Future[Result] = Future()
        now = time.perf_counter()
        with self._changed:
            self.submitted.append(now)
            start = max(now, heapq.heappop(self._ends))
            end = start + _SECONDS
            heapq.heappush(self._ends, end)
            self.busy.append((start, end))
            heapq.heappush(self._due, (end, len(self.busy), request, future))
            self._changed.notify()
        return future

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def occupancy(self) -> float:
        """Return the share of slot time that is busy from the first to the last submission."""
        first, last = self.submitted[0], self.submitted[-1]
        busy = sum(max(0.0, min(end, last) - start) for start, end in self.busy)
        return busy / (_SLOTS * (last - first))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.perf_counter():
                    wait = self._due[0][0] - time.perf_counter() if self._due else None
                    self._changed.wait(wait)
                _, _, request, future = heapq.heappop(self._due)
            if future.set_running_or_notify_cancel():
                future.set_result(Result(request.id, Outcome.COMPLETE, "A man cuts wood."))


def main() -> None:
    """Measure and print."""
    full = parse_arguments(__doc__).full
    with tempfile.TemporaryDirectory() as folder:
        videos, out = Path(folder) / "videos", Path(folder) / "run"
        videos.mkdir()
        lengths = draw_videos(videos, longest=600.0 if full else 60.0)
        run([videos], out, workers=_WORKERS, console=Console(quiet=True))
        ours, requests, seconds = caption(RunFolder(out), crowd=True)
        rival, _, _ = caption(RunFolder(out), crowd=False)
    print_table(["what", "slots busy"], [["action100m", ours], ["one video at a time", rival]])
    print(
        f"{_VIDEOS} videos of {min(lengths):.0f} to {max(lengths):.0f} s, {requests} requests in "
        f"{seconds:.0f} s; at least {requests * _SECONDS / _SLOTS:.0f} s"
    )
    finish(
        "engine_occupancy",
        ours=ours,
        rival=rival,
        ratio=ours / rival,
        unit="share of slots busy",
        limit=0.95,
    )


def draw_videos(folder: Path, longest: float) -> list[float]:
    """Draw videos of noise whose lengths fall from `longest` to a few seconds; return lengths."""
    generator = np.random.default_rng(0)
    lengths = [max(4.0, longest * (k + 1) ** -1.0) for k in range(_VIDEOS)]
    for k, length in enumerate(lengths):
        with av.open(str(folder / f"v{k:02}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            for number in range(round(length * 30)):
                if number % 40 == 0:
                    scene = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                    picture = scene.repeat(16, 0).repeat(16, 1)
                moved = np.roll(picture, number, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
            container.mux(stream.encode(None))
    return lengths


def caption(folder: RunFolder, *, crowd: bool) -> tuple[float, int, float]:
    """Caption all videos; return the share of busy slots, the requests and the seconds."""
    captioner = {"model": _MODEL, "prompt": f"Describe it {'well' if crowd else 'slowly'}."}
    captioning = {"segments": captioner, "leaves": captioner}
    config = Config.model_validate(
        {**read_settings(folder).config.model_dump(), "captioning": captioning}
    )
    segment = read_settings(folder).key("segment")
    identities = {
        "segment": read_settings(folder).identities["segment"],
        "caption": caption_stage_identity(config, segment),
    }
    settings, engine = Settings(config, identities), StandIn()
    feed = Feed(engine)
    manifest = Manifest(folder)
    start = time.perf_counter()
    with DecoderPool([Decoder() for _ in range(_WORKERS)]) as pool:
        stage = CaptionStage(
            settings, VideoCaptioner(config, {"segments": feed, "leaves": feed}, pool), folder
        )
        if not crowd:
            stage.concurrency = lambda workers: 1  # type: ignore[method-assign]
        sizes = {video.uid: video.size for video in manifest.videos}
        with StageProgress("caption", sizes, Console(quiet=True)) as progress:
            run_stage(stage, manifest.videos, folder, _WORKERS, progress)
    return engine.occupancy(), len(engine.submitted), time.perf_counter() - start


if __name__ == "__main__":
    main()
