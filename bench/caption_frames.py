"""Measure the frames decoded to caption all segments, relative to the frames in the file.

`ours` is the share that one pass decodes for stage 2; the limit is 1. `rival` is what a seek per
segment decodes: from the key frame before the segment's first frame to its last frame. `--full`
adds the peak memory for 100 minutes of 480p with 80 requests in flight; the limit is 1.5 GB.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import av

from action100m.captioning.frames import Budget, Want, choose_frames, gather
from action100m.config import Config, CutConfig
from action100m.segmentation.encoders.descriptor import DescriptorEncoder
from action100m.segmentation.stage import Segmentation, Segmenter
from action100m.tree import Tree
from action100m.video import Decoder, FrameSpec
from harness import finish, parse_arguments, print_table
from stage1 import draw_piece, loop

_STRIDE, _FRAMES, _SIDE = 4, 32, 320
_IN_FLIGHT = 80
_BUDGET = 2**30


def main() -> None:
    """Measure and print."""
    if len(sys.argv) == 3 and sys.argv[1] == "--peak":
        print_peak(Path(sys.argv[2]))
        return
    full = parse_arguments(__doc__).full
    with tempfile.TemporaryDirectory() as folder:
        video = loop(draw_piece(Path(folder)), 60)
        segmentation, tree = segment(video, 0.5)
        start = time.perf_counter()
        ours = gather_all(video, segmentation, tree) / segmentation.report.frames
        ours_seconds = time.perf_counter() - start
        start = time.perf_counter()
        rival = seek_all(video, segmentation, tree) / segmentation.report.frames
        rival_seconds = time.perf_counter() - start
        peak = measure_peak(loop(draw_piece(Path(folder)), 6000)) if full else {}
    print_table(
        ["what", "frames decoded / frames in the file", "seconds"],
        [
            ["action100m, one pass", ours, ours_seconds],
            ["a seek per segment", rival, rival_seconds],
        ],
    )
    print(f"854x480 H.264, 60 s, {len(tree)} segments, up to {_FRAMES} frames each")
    if peak:
        print(
            f"100 minutes, {peak['segments']:.0f} segments: peak {peak['parent']:.2f} GB, and "
            f"{peak['child']:.2f} GB in the decoding process"
        )
    finish(
        "caption_frames",
        ours=ours,
        rival=rival,
        ratio=rival / ours,
        unit="decoded frames per frame",
        limit=1.0,
        peak_gb=peak,
    )


def segment(video: Path, min_duration: float) -> tuple[Segmentation, Tree]:
    """Return a video's segmentation and tree."""
    with Segmenter(Config(), DescriptorEncoder(), threads=2) as segmenter:
        segmentation = segmenter.segment(video)
    return segmentation, segmentation.tree(CutConfig(min_duration=min_duration))


def gather_all(video: Path, segmentation: Segmentation, tree: Tree) -> int:
    """Gather the frames of all segments as stage 2 does; return how many frames were decoded."""
    chosen = choose_frames(segmentation.times, tree.start, tree.end, _FRAMES)
    wants = [Want(b"%d" % node, frames) for node, frames in enumerate(chosen)]
    flying: deque[object] = deque(maxlen=_IN_FLIGHT)
    with Decoder() as decoder, tempfile.TemporaryDirectory() as spill:
        stream = decoder.open(video, FrameSpec(_STRIDE, _SIDE, "stretch"))
        budget = Budget(_BUDGET)
        for _, frames in gather(stream, segmentation.times, wants, budget, Path(spill)):
            flying.append(frames)
        return stream.report.frames


def seek_all(video: Path, segmentation: Segmentation, tree: Tree) -> int:
    """Seek to every segment and decode to its last frame; return how many frames were decoded."""
    chosen = choose_frames(segmentation.times, tree.start, tree.end, _FRAMES)
    decoded = 0
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", 2
        begin = float((stream.start_time or 0) * stream.time_base)
        for frames in chosen:
            wanted = deque((segmentation.times[frames] + begin).tolist())
            container.seek(int(wanted[0] / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                decoded += 1
                if frame.time >= wanted[0] - 1e-3:
                    wanted.popleft()
                    frame.reformat(_SIDE, _SIDE, "rgb24").to_ndarray()
                    if not wanted:
                        break
    return decoded


def measure_peak(video: Path) -> dict[str, float]:
    """Return the peak GB of both processes, measured in fresh processes."""
    words = [sys.executable, __file__, "--peak", str(video)]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    segments, parent, child = map(float, output.split())
    return {"segments": segments, "parent": parent, "child": child}


def print_peak(video: Path) -> None:
    """Gather the frames of a long video; print its segments and the peak GB of both processes."""
    segmentation, tree = segment(video, 0.35)
    gather_all(video, segmentation, tree)
    peaks = [
        resource.getrusage(who).ru_maxrss * 1024 / 1e9
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(len(tree), *peaks)


if __name__ == "__main__":
    main()
