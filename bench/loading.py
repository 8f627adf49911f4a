"""Measure how long `action100m.torch` takes per training sample, against PyAV in the same process.

A sample is eight frames of 224 x 224 pixels from a random segment of a 480p video. The rival opens
the file, seeks, decodes up to the last frame and scales the eight; ours also reads the segment's
texts, and decodes in a child process, which a damaged file can kill without harm.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

import action100m
from action100m.torch import Segments
from harness import finish, parse_arguments, print_table
from stage1 import draw_piece, loop

FRAMES, SIDE = 8, 224


def read_with_pyav(path: Path, times: list[float]) -> list[np.ndarray]:
    """Return the frames shown at these times, cropped to a square."""
    shown: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(times[0] / stream.time_base), stream=stream)
        before = None
        for frame in container.decode(stream):
            while before is not None and len(shown) < len(times) and frame.time > times[len(shown)]:
                shown.append(_square(before))
            if len(shown) == len(times):
                break
            before = frame
    return shown


def _square(frame: av.VideoFrame) -> np.ndarray:
    width = round(SIDE * frame.width / frame.height)
    pixels = frame.reformat(width=width, height=SIDE, format="rgb24").to_ndarray()
    left = (width - SIDE) // 2
    return pixels[:, left : left + SIDE]


def main() -> None:
    """Measure and print."""
    samples = 400 if parse_arguments(__doc__).full else 64
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        video = loop(draw_piece(folder), 300)
        action100m.run(video, folder / "run")
        selection = action100m.Selection(min_level=3)
        segments = iter(
            Segments(folder / "run", frames=FRAMES, side=SIDE, batch_size=1, selection=selection)
        )
        next(segments)  # starts the decoding process
        ours, theirs = [], []
        for _ in range(samples):
            start = time.perf_counter()
            batch = next(segments)
            ours.append(time.perf_counter() - start)
            span = float(batch["end"][0] - batch["start"][0])
            times = batch["start"][0].item() + (np.arange(FRAMES) + 0.5) / FRAMES * span
            start = time.perf_counter()
            read = read_with_pyav(video, times.tolist())
            theirs.append(time.perf_counter() - start)
            if len(read) != FRAMES:
                sys.exit(f"PyAV found {len(read)} of {FRAMES} frames.")
    mean = statistics.mean
    print_table(
        ("what", "ms per sample"),
        [["action100m.torch", mean(ours) * 1e3], ["PyAV", mean(theirs) * 1e3]],
    )
    finish(
        "loading",
        ours=mean(ours),
        rival=mean(theirs),
        ratio=mean(ours) / mean(theirs),
        unit="seconds/sample",
        samples=samples,
    )


if __name__ == "__main__":
    main()
