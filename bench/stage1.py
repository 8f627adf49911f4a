"""Measure stage 1 with the built-in encoder against a bare FFmpeg decode, with two threads.

The rival is `ffmpeg -threads 2 -i F -map 0:v:0 -f null -`, which only decodes the same file;
`ours` decodes, scales, embeds, clusters and cuts. `ratio` is ours / FFmpeg; the limit is 1.35.
`one_thread` is the same with one decoder thread, as a run decodes each of its videos.
Peak memory is that of our process and its decoding process together, without the embeddings.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from action100m.config import Config
from action100m.segmentation.encoders.descriptor import DescriptorEncoder
from action100m.segmentation.stage import Segmenter
from harness import finish, parse_arguments, print_table

_SHARED = Path(os.environ.get("ACTION100M_SHARED", Path(__file__).parents[2] / "shared"))
_CLIPS = ("decord_flipping_a_pancake.mkv", "skv_bikes.mp4", "mma_test.avi", "asl/book.mkv")
_REPEATS = 5


def main() -> None:
    """Measure and print."""
    if len(sys.argv) == 3 and sys.argv[1] == "--peak":
        print_peak(Path(sys.argv[2]))
        return
    full = parse_arguments(__doc__).full
    if shutil.which("ffmpeg") is None:
        sys.exit("This benchmark needs the ffmpeg command: apt-get install ffmpeg")
    with tempfile.TemporaryDirectory() as folder:
        piece = draw_piece(Path(folder))
        short = loop(piece, 600 if full else 90)
        ours, alone, rival = compare(short)
        peaks = {}
        if full:
            peaks = {minutes: peak(loop(piece, 60 * minutes)) for minutes in (10, 100)}
        size = short.stat().st_size * 8 / (600 if full else 90) / 1e6
    print_table(
        ["what", "seconds"],
        [
            ["ffmpeg, decode only", rival],
            ["action100m, stage 1", ours],
            ["with one decoder thread, as in a run", alone],
        ],
    )
    print(f"854x480 H.264 at {size:.2f} Mbit/s, median of {_REPEATS}")
    for minutes, mebibytes in peaks.items():
        print(f"peak memory, {minutes} minutes: {mebibytes:.0f} MiB, without embeddings")
    finish(
        "stage1",
        ours=ours,
        rival=rival,
        ratio=ours / rival,
        one_thread=alone / rival,
        unit="seconds",
        limit=1.35,
        peak_mib=peaks,
    )


def draw_piece(folder: Path) -> Path:
    """Write 30 seconds of 854x480 at 30 frames per second: real clips if available, else drawn."""
    clips = [_SHARED / "videos" / name for name in _CLIPS]
    clips = [clip for clip in clips if clip.exists()]
    inputs = [word for clip in clips for word in ("-stream_loop", "-1", "-t", "8", "-i", str(clip))]
    scale = "scale=854:480,setsar=1,fps=30,format=yuv420p"
    joined = "".join(f"[{i}:v:0]{scale}[v{i}];" for i in range(len(clips)))
    joined += "".join(f"[v{i}]" for i in range(len(clips))) + f"concat=n={len(clips)}"
    if not clips:
        inputs = ["-f", "lavfi", "-i", "testsrc2=s=854x480:r=30:d=30"]
        joined = "[0:v]noise=alls=4:allf=t,format=yuv420p"
    target = folder / "piece.mp4"
    encode = ["-c:v", "libx264", "-preset", "fast", "-crf", "24", "-g", "150", "-t", "30"]
    ffmpeg(*inputs, "-filter_complex", joined, *encode, str(target))
    return target


def loop(piece: Path, seconds: int) -> Path:
    """Repeat the piece up to `seconds`, without encoding it again."""
    target = piece.with_name(f"{seconds}.mp4")
    ffmpeg("-stream_loop", "-1", "-i", str(piece), "-t", str(seconds), "-c", "copy", str(target))
    return target


def ffmpeg(*words: str) -> None:
    """Run FFmpeg quietly; a failure ends the benchmark."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *words], check=True, stdin=subprocess.DEVNULL)


def compare(video: Path) -> tuple[float, float, float]:
    """Return the median seconds of ours, of ours with one decoder thread, and of FFmpeg."""
    config, encoder = Config(), DescriptorEncoder()
    with Segmenter(config, encoder, threads=2) as two, Segmenter(config, encoder) as one:
        for segmenter in (two, one):
            segmenter.segment(video.with_name("piece.mp4"))  # starts the decoding process
        in_turns: list[Callable[[], object]] = [
            lambda: two.segment(video).tree(config.cut),
            lambda: one.segment(video).tree(config.cut),
            lambda: ffmpeg("-threads", "2", "-i", str(video), "-map", "0:v:0", "-f", "null", "-"),
        ]
        seconds = [[_seconds(call) for call in in_turns] for _ in range(_REPEATS)]
    ours, alone, rival = map(median, zip(*seconds, strict=True))
    return ours, alone, rival


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak(video: Path) -> float:
    """Return the peak MiB of both processes, measured in fresh processes."""
    words = [sys.executable, __file__, "--peak", str(video)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def print_peak(video: Path) -> None:
    """Segment a video and print the peak memory of this process and its child."""
    config = Config.model_validate({"segmentation": {"keep_embeddings": True}})
    with Segmenter(config, DescriptorEncoder(), threads=2) as segmenter:
        embeddings = segmenter.segment(video).embeddings
    assert embeddings is not None
    kibibytes = sum(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(kibibytes / 1024 - embeddings.nbytes / 2**20)


if __name__ == "__main__":
    main()
