"""The decoder process: which failures it survives, and how the run survives its death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from action100m.errors import VideoError
from action100m.trace import tracing
from action100m.video import Clip, DecodeLimits, Decoder, FrameBatch, FrameSpec
from action100m.video.pyav import PyAVStream
from synthetic import write_video

SPEC = FrameSpec(stride=1, side=96)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the memory limit holds on Linux")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", [2.0, 3.0])


def pixels(batches: list[FrameBatch]) -> np.ndarray:
    return np.concatenate([batch.pixels for batch in batches])


def child(decoder: Decoder) -> int:
    assert decoder.pid is not None
    return decoder.pid


def test_the_child_gives_the_same_frames_as_this_process(clip: Path) -> None:
    direct = PyAVStream(clip, SPEC)
    truth = list(direct)
    direct.close()
    with Decoder() as decoder:
        for _ in range(2):
            stream = decoder.open(clip, SPEC)
            batches = list(stream)
            assert (pixels(batches) == pixels(truth)).all()
            assert [b.times.tolist() for b in batches] == [b.times.tolist() for b in truth]
            assert (stream.info, stream.report) == (direct.info, direct.report)
            stream.close()


def test_a_trace_counts_the_sampled_frames(clip: Path) -> None:
    with tracing() as trace, Decoder() as decoder:
        frames = sum(len(batch.times) for batch in decoder.open(clip, SPEC))
    spans = [span for span in trace.spans if span.name == "decode"]
    assert sum(span.figures.get("sampled frames", 0) for span in spans) == frames > 0


def test_one_child_decodes_many_files_good_and_bad(clip: Path, tmp_path: Path) -> None:
    with Decoder() as decoder:
        assert decoder.pid is None
        list(decoder.open(clip, SPEC))
        first = child(decoder)
        with pytest.raises(VideoError, match="does not exist"):
            decoder.open(tmp_path / "none.mp4", SPEC)
        list(decoder.open(clip, SPEC))
        assert child(decoder) == first
    assert decoder.pid is None


def test_closing_midway_does_not_affect_the_next_file(clip: Path) -> None:
    with Decoder() as decoder:
        stream = decoder.open(clip, SPEC)
        next(iter(stream))
        stream.close()
        assert decoder.pid is None
        again = decoder.open(clip, SPEC)
        next(iter(again))
        third = decoder.open(clip, SPEC)  # the second is left unread
        assert sum(len(batch.index) for batch in third) == 150


def test_a_killed_child_is_an_error_and_is_replaced(clip: Path) -> None:
    with Decoder() as decoder:
        stream = decoder.open(clip, FrameSpec(stride=1, side=480))
        os.kill(child(decoder), signal.SIGKILL)
        with pytest.raises(VideoError, match=r"killed by SIGKILL.* while decoding") as caught:
            list(stream)
        assert caught.value.transient
        assert sum(len(batch.index) for batch in decoder.open(clip, SPEC)) == 150
        os.kill(child(decoder), signal.SIGKILL)  # between two files
        time.sleep(0.1)
        assert sum(len(batch.index) for batch in decoder.open(clip, SPEC)) == 150


def test_a_stalled_child_is_killed(clip: Path) -> None:
    with Decoder(DecodeLimits(stall_seconds=1)) as decoder:
        stream = decoder.open(clip, FrameSpec(stride=1, side=480))
        os.kill(child(decoder), signal.SIGSTOP)
        with pytest.raises(VideoError, match=r"no progress for 1 s while decoding") as caught:
            list(stream)
        assert caught.value.transient
        assert decoder.pid is None


@linux
def test_too_little_memory_is_reported_and_never_taken_for_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", [0.5], size=(1920, 1080))
    for mebibytes in (1, 4, 8, 12):
        with (
            Decoder(DecodeLimits(memory=mebibytes << 20)) as decoder,
            pytest.raises(VideoError, match=f"more than {mebibytes} MiB of memory"),
        ):
            list(decoder.open(path, SPEC))
    with Decoder(DecodeLimits(memory=64 << 20)) as decoder:
        assert sum(len(batch.index) for batch in decoder.open(path, SPEC)) == 15


def test_a_child_outlives_a_video_that_it_refuses(clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clip.read_bytes()[:1000])
    with Decoder() as decoder:
        decoder.frames_at(clip, [0.5], SPEC)
        first = child(decoder)
        for _ in range(3):
            with pytest.raises(VideoError, match="inside its index"):
                decoder.frames_at(bad, [0.5], SPEC)
        with pytest.raises(FileNotFoundError):
            decoder.cut(clip, [Clip(0.0, 1.0, tmp_path / "none" / "clip.mp4")])
        decoder.frames_at(clip, [0.5], SPEC)
        assert child(decoder) == first


@pytest.mark.parametrize("name", ["a%03d.mp4", "-dash 'x\" y.mp4", "видео.mp4", "concat:b.mp4"])
def test_any_name_is_a_plain_path(clip: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(clip.read_bytes())
    with Decoder() as decoder:
        assert decoder.open(path, SPEC).info.codec == "h264"


def test_a_title_in_another_encoding_is_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Zubereitung: XXXXXX"
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"XXXXXX", "Gemüse".encode("latin-1")))
    with Decoder() as decoder:
        assert len(list(decoder.open(path, SPEC))) == 1


def test_files_that_are_not_videos_are_refused_with_a_reason(clip: Path, tmp_path: Path) -> None:
    files = {
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:{clip}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"ffconcat version 1.0\nfile {clip}\n",
        "notes.mp4": "Not today.\n" * 20,
        "zeros.mp4": "\0" * 5000,
    }
    reasons = ["playlist", "playlist", "it is text", "zeros"]
    with Decoder() as decoder:
        for (name, text), reason in zip(files.items(), reasons, strict=True):
            (tmp_path / name).write_text(text)
            with pytest.raises(VideoError, match=reason):
                decoder.open(tmp_path / name, SPEC)
        with pytest.raises(VideoError, match="Not a file"):
            decoder.open(tmp_path, SPEC)
        with pytest.raises(VideoError, match="No file can have this name") as caught:
            decoder.open(f"{clip}\0.mp4", SPEC)
        assert not caught.value.transient


def test_many_decoders_in_many_threads(clip: Path) -> None:
    counts: list[int] = []

    def work() -> None:
        with Decoder() as decoder:
            counts.append(sum(len(batch.index) for batch in decoder.open(clip, SPEC)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [150] * 4


def test_a_script_without_a_main_guard(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "logging.py").write_text("raise SystemExit('a stray file was imported')")
    script = tmp_path / "script" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from action100m.video import Decoder, FrameSpec\n"
        "with Decoder() as decoder:\n"
        f"    print(sum(len(b.index) for b in decoder.open({str(clip)!r}, FrameSpec(4, 32))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("38\n", "")


def test_the_child_ends_with_its_parent(clip: Path) -> None:
    script = (
        "import sys, time\n"
        "from action100m.video import Decoder, FrameSpec\n"
        "decoder = Decoder()\n"
        f"stream = decoder.open({str(clip)!r}, FrameSpec(1, 480))\n"
        "print(decoder.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        if not _runs(orphan):
            return
        time.sleep(0.05)
    pytest.fail("the child outlives its parent")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # an orphan may stay a zombie where no init reaps it
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
