"""Cut clips from a dataset's videos, and list what each clip contains."""

from __future__ import annotations

import json
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.dataset.clips.choice import Choice, Segment
from action100m.dataset.clips.cut import Clips, Order
from action100m.dataset.clips.shards import SHARD_BYTES, Row, ShardWriter, read_shard, shards
from action100m.dataset.filenames import file_name
from action100m.dataset.read import Dataset
from action100m.errors import VideoError
from action100m.files import TEMPORARY, write_atomically, write_text
from action100m.locks import locked
from action100m.schema import SEGMENT_TEXTS
from action100m.video import Decoder, DecoderPool, Obtained

TABLE = "clips.parquet"
ASKED, _LOCK = "asked.json", ".lock"
_OPTIONS = {"copied": "--copy", "packed": "--format webdataset"}  # others have their own names
_ATTEMPTS = 3  # for a video whose error is transient
_AHEAD = 4  # videos per worker that may finish before their turn
_ROWS_AT_ONCE = 1024
_SCHEMA = pa.schema(
    [
        ("video_uid", pa.string()),
        ("node_id", pa.string()),
        ("level", pa.int16()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("clip_start", pa.float64()),
        ("clip_end", pa.float64()),
        ("frames", pa.int32()),
        *((name, pa.string()) for name in SEGMENT_TEXTS),
        ("file", pa.string()),
    ]
)


@dataclass
class Written:
    """The result of `cut_clips`.

    Attributes:
        clips: number of clips.
        left_out: a sentence for every video or segment without a clip.
    """

    clips: int = 0
    left_out: list[str] = field(default_factory=list)


def cut_clips(
    dataset: Dataset,
    folder: Path,
    choice: Choice,
    videos: Mapping[str, Path],
    *,
    copy: bool = False,
    packed: bool = False,
    workers: int = 1,
    shard_bytes: int = SHARD_BYTES,
    on_video: Callable[[str], object] = lambda uid: None,
) -> Written:
    """Cut the chosen segments of every video in one pass over it.

    `folder` then contains clips/UID/NODE.mp4 or, if packed, clips-000000.tar and so on; and
    clips.parquet with a row for each clip: uid, node id and level; start and end of the segment;
    clip_start, clip_end and frames as obtained; its texts; and the file that contains it.

    A video's clips are written all together or not at all. Existing clips that were cut from a file
    of the same size for the same segments are not cut again. Shards are never rewritten: later
    clips go into new shards. With the same data and settings, a first run writes the same bytes.

    Args:
        dataset: the dataset to cut.
        folder: a new folder, or one that this function wrote.
        choice: the segments to cut.
        videos: the video files by uid.
        copy: copy the encoded pictures unchanged; see `Decoder.cut`.
        packed: write tar shards for the webdataset library.
        workers: number of videos to cut at once.
        shard_bytes: see `ShardWriter`.
        on_video: called with the uid of each video when it is done or left out.

    Raises:
        DatasetError: the dataset cannot be read.
        FileExistsError: the folder contains something else or clips with other settings, or a
            shard is missing.
        OSError: a file cannot be written; finished work is kept.
    """
    _refuse_foreign(folder)
    clips = folder / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK):
        clips.mkdir(exist_ok=True)
        _refuse_other(folder, {**choice.asked(), "copied": copy, "packed": packed})
        _sweep(folder)
        written = Written()
        cutting = _Cutting(clips, videos, copy, packed)

        def done() -> Iterator[tuple[Path, Row]]:
            for uid, segments, result in cutting.run(choice.videos(dataset), workers):
                yield from _rows(uid, segments, result, written)
                on_video(uid)

        rows: Iterator[Row]
        if packed:
            rows = _pack(folder, done(), ShardWriter(folder, clips, shard_bytes))
        else:
            rows = (row | {"file": str(path.relative_to(folder))} for path, row in done())
        write_atomically(folder / TABLE, lambda path: _write_table(path, rows))
        if not (shards(folder) or any(clips.glob("*/*.mp4"))):
            shutil.rmtree(clips)  # only records of failures are left
            (folder / ASKED).unlink()  # other settings may be used next time
    return written


def _refuse_foreign(folder: Path) -> None:
    ours = any((folder / name).exists() for name in (TABLE, ASKED, _LOCK))
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise FileExistsError(
            f"{folder} holds files not written by `clips`: choose another folder with --out."
        )


def _refuse_other(folder: Path, asked: dict[str, object]) -> None:
    """Record the settings in a new folder; raise if a folder with clips has other settings."""
    note = folder / ASKED
    if not note.exists():
        write_text(note, json.dumps(asked, indent=1))
        return
    before = json.loads(note.read_text("utf-8"))
    options = [(_option(name, before.get(name)), _option(name, asked[name])) for name in asked]
    if other := [f"{had}, not {wanted}" for had, wanted in options if had != wanted]:
        raise FileExistsError(
            f"{folder} holds clips with other settings ({', '.join(other)}): choose another "
            "folder with --out."
        )


def _option(name: str, value: object) -> str:
    """Return a setting as the option that asks for it."""
    option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
    if value in (None, False, "None", "inf"):
        return f"no {option}"
    return option if value is True else f"{option} {value}"


def _pack(folder: Path, done: Iterable[tuple[Path, Row]], writer: ShardWriter) -> Iterator[Row]:
    """Pack the clips; then yield the rows of all shards."""
    for path, row in done:
        writer.add(path, row)
    writer.flush()
    for shard in shards(folder):
        for _, row in read_shard(shard):
            yield row | {"file": shard.name}


def _rows(
    uid: str, segments: list[Segment], result: Clips | str, written: Written
) -> Iterator[tuple[Path, Row]]:
    if isinstance(result, str):
        written.left_out.append(f"{uid or 'a video without a uid'}: {result}")
        return
    for segment in segments:
        outcome = result.outcomes[segment.node_id]
        if isinstance(outcome, str):
            written.left_out.append(f"{uid}: segment {segment.node_id}: {outcome}")
        else:
            written.clips += 1
            yield result.path(segment.node_id), _row(uid, segment, outcome)


def _row(uid: str, segment: Segment, obtained: Obtained) -> Row:
    wanted = asdict(segment)
    texts: dict[str, str | None] = wanted.pop("texts")
    held = {"clip_start": obtained.start, "clip_end": obtained.end, "frames": obtained.frames}
    return {"video_uid": uid, **wanted, **held, **texts}


def _write_table(path: Path, rows: Iterable[Row]) -> None:
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        heap: list[Row] = []
        for row in rows:
            heap.append(row)
            if len(heap) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(heap, _SCHEMA))
                heap = []
        writer.write_table(pa.Table.from_pylist(heap, _SCHEMA))


class _Cutting:
    """The state of one call of `cut_clips`."""

    def __init__(self, clips: Path, videos: Mapping[str, Path], copy: bool, packed: bool) -> None:
        self._clips, self._videos, self._copy, self._packed = clips, videos, copy, packed
        self._stop = threading.Event()

    def run(
        self, wanted: Iterable[tuple[str, list[Segment]]], workers: int
    ) -> Iterator[tuple[str, list[Segment], Clips | str]]:
        """Yield each video's segments and clips, in order; or the reason why it has no clips."""
        decoders = [Decoder() for _ in range(workers)]
        seen: set[str] = set()
        waiting: deque[tuple[str, list[Segment], Future[Clips | str]]] = deque()
        with ThreadPoolExecutor(workers) as executor, DecoderPool(decoders) as pool:
            try:
                for uid, segments in wanted:
                    work = self._again if uid in seen else self._video
                    seen.add(uid)
                    waiting.append((uid, segments, executor.submit(work, uid, segments, pool)))
                    if len(waiting) > _AHEAD * workers:
                        yield _result(*waiting.popleft())
                while waiting:
                    yield _result(*waiting.popleft())
            except BaseException:
                self._stop.set()
                executor.shutdown(wait=False, cancel_futures=True)
                pool.interrupt()
                raise

    def _again(self, uid: str, segments: list[Segment], pool: DecoderPool) -> str:
        return "An earlier row has the same uid."

    def _video(self, uid: str, segments: list[Segment], pool: DecoderPool) -> Clips | str:
        if not segments:
            return Clips(self._clips, {})
        if len({segment.node_id for segment in segments}) < len(segments):
            return "Two of its segments have the same node id."
        video = self._videos.get(uid)
        if video is None:
            return "There is no file with its uid, or the file is not the one that the run used."
        if not video.is_file():
            return f"Its file {video} no longer exists."
        try:
            folder = self._clips / file_name(uid, dots=False)
        except ValueError as error:
            return str(error)
        order = Order(video, segments, folder, self._copy, self._packed)
        return order.existing() or self._cut(order, pool)

    def _cut(self, order: Order, pool: DecoderPool) -> Clips | str:
        for _ in range(_ATTEMPTS):
            with pool.borrow(self._check) as decoder:
                self._check()
                try:
                    return order.cut(decoder)
                except VideoError as error:
                    reason = str(error)
                    if not error.transient:
                        break
        return reason

    def _check(self) -> None:
        if self._stop.is_set():
            raise CancelledError


def _result(
    uid: str, segments: list[Segment], result: Future[Clips | str]
) -> tuple[str, list[Segment], Clips | str]:
    return uid, segments, result.result()


def _sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished."""
    for left in (folder / "clips").glob(f"{TEMPORARY}*"):
        shutil.rmtree(left)
    for left in folder.glob(f"{TEMPORARY}*"):
        left.unlink()
