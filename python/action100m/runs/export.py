"""Export the parts of done videos as rows of the dataset, sorted by uid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from action100m import __version__
from action100m.captioning.questions import FIELDS
from action100m.config import AggregationConfig, CaptionerConfig, MetadataConfig
from action100m.dataset.swap import replaced
from action100m.dataset.write import (
    SHARD_NAME,
    node_rows,
    split_into_shards,
    video_row,
    write_shard,
)
from action100m.errors import NothingToDoError, as_run_stopped
from action100m.files import write_text
from action100m.inference.answers import TEXT_COLUMNS, texts
from action100m.locks import locked
from action100m.processes import call_in_processes
from action100m.runs.details import Details
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest, Video
from action100m.runs.segment_stage import read_segmentation
from action100m.runs.settings import Settings, read_settings
from action100m.runs.sidecars.lookup import Sidecars
from action100m.runs.sidecars.metadata import uid_of
from action100m.runs.sidecars.transcript import read_transcript
from action100m.schema import GPT, stored_time
from action100m.segmentation.stage import Segmentation
from action100m.tree import Tree


@as_run_stopped()
def export(folder: RunFolder, manifest: Manifest, settings: Settings, processes: int) -> list[Path]:
    """Write all Parquet shards; they depend only on the parts, the manifest and the settings.

    Returns:
        The shards; one without rows if no video is done.

    Args:
        folder: run folder.
        manifest: its videos.
        settings: its settings.
        processes: maximum number of processes that write shards.

    Raises:
        NothingToDoError: the run never had a video; the shards are kept.
        OSError: the shards cannot be written; the previous ones are kept.
        RunStoppedError: a part or the manifest is damaged, or a process died.
    """
    if manifest.is_empty:
        raise NothingToDoError(
            f"{folder.root} lists no videos, so {folder.data} stays as it is: if the manifest was "
            "deleted, run `action100m run` with the videos again."
        )
    done = {key.name: folder.done_keys(key) for key in settings.keys}
    videos = [
        (video, {stage for stage, keys in done.items() if video.key in keys})
        for video in manifest.videos
        if video.key in done["segment"]
    ]
    shards = split_into_shards(len(videos), settings.config.export.rows_per_shard)
    with replaced(folder.data, SHARD_NAME) as fresh:
        calls = [(folder, settings, videos[part], fresh / name) for name, part in shards.items()]
        call_in_processes(_write_shard, calls, processes)
    return [folder.data / name for name in shards]


def export_what_changed(
    folder: RunFolder, settings: Settings, processes: int, on_wait: Callable[[], object]
) -> list[Path] | None:
    """Call `export` unless the dataset is already up to date.

    If several runs end at once, the first one writes and the others, which call `on_wait`, find the
    dataset up to date. Returns None if the run folder now has other settings, which the dataset
    would not match.
    """
    stamp = folder.root / ".exported"
    with locked(folder.root / ".export.lock", on_wait):
        if not read_settings(folder).make_the_same(settings):
            return None
        manifest = Manifest(folder)  # read under the lock, to include what other runs have added
        made_of = _inputs(folder, manifest, settings)
        existing = sorted(folder.data.glob("*.parquet"))
        if existing and stamp.is_file() and stamp.read_text("utf-8") == _mark(made_of, existing):
            return existing
        shards = export(folder, manifest, settings, processes)
        write_text(stamp, _mark(made_of, shards))
    return shards


def _inputs(folder: RunFolder, manifest: Manifest, settings: Settings) -> list[object]:
    """Return everything that determines the dataset's bytes, or a stand-in for it."""
    parts = [folder.part_states(key) for key in settings.keys]
    videos = [
        (video.uid, _row_of(video), *(states.get(video.key) for states in parts))
        for video in manifest.videos
    ]
    how = (__version__, pa.__version__, settings.config.export.rows_per_shard)
    return [*how, sorted(_file_metadata(settings).items()), videos]


def _row_of(video: Video) -> tuple[str, int] | None:
    """Return where the manifest has the video, independent of the run folder's path."""
    return video.place and (video.place[0].name, video.place[1])


def _mark(made_of: list[object], shards: list[Path]) -> str:
    states = [(shard.name, shard.stat()) for shard in shards]
    files = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
    return hashlib.sha256(repr((made_of, files)).encode("utf-8", "surrogateescape")).hexdigest()


def published_row(
    path: Path, segmentation: Segmentation, tree: Tree, config: MetadataConfig
) -> tuple[dict[str, Any], list[str]]:
    """Return one video's row as plain values, times rounded to two decimals as published.

    Also returns sentences about metadata and subtitles that could not be used.
    """
    sidecars = Sidecars(config)
    [metadata] = sidecars.metadata([path])
    transcript = read_transcript(path, sidecars.subtitles(path), sidecars.languages)
    uid = uid_of(path, metadata)
    about = metadata.row(segmentation.report.end, transcript.row())
    batch = video_row(uid, about, node_rows(uid, tree))
    row: dict[str, Any] = batch.to_pylist()[0]
    for node in row["nodes"]:
        node["start"], node["end"] = (stored_time(node[name]) for name in ("start", "end"))
    return row, [*sidecars.doubts([(path, uid)]), *metadata.problems, *transcript.problems]


def _write_shard(
    folder: RunFolder, settings: Settings, videos: list[tuple[Video, set[str]]], path: Path
) -> None:
    """Write one file: the videos, each with the stages that have done it."""
    details = Details()
    rows = (_row(folder, settings, video, done, details) for video, done in videos)
    write_shard(path, rows, _file_metadata(settings))


def _row(
    folder: RunFolder, settings: Settings, video: Video, done: set[str], details: Details
) -> pa.RecordBatch:
    segmentation = read_segmentation(folder, settings, video)
    tree = segmentation.tree(settings.config.cut)
    fields: dict[str, pa.Array] = {}
    if "caption" in done:
        part = folder.read_part(settings.key("caption"), video.key, TEXT_COLUMNS)
        fields = {name: texts(part, name, len(tree)) for name in FIELDS}
    if "aggregate" in done:
        part = folder.read_part(settings.key("aggregate"), video.key, TEXT_COLUMNS)
        fields["gpt"] = _parsed(texts(part, "gpt", len(tree)))
    metadata, transcript = details.metadata(video), details.transcript(video)
    about = metadata.row(segmentation.report.end, transcript)
    return video_row(video.uid, about, node_rows(video.uid, tree, fields))


def _parsed(annotations: pa.StringArray) -> pa.StructArray:
    found = json.loads(f"[{','.join(text or 'null' for text in annotations.to_pylist())}]")
    return pa.array(found, GPT)


def _file_metadata(settings: Settings) -> dict[str, str]:
    """Return what produced each field, as the column names do not depend on the model."""
    identities = {**settings.identities, "cut": settings.config.cut.model_dump()}
    metadata = {
        f"action100m.{stage}.{name}": value if isinstance(value, str) else json.dumps(value)
        for stage, values in identities.items()
        for name, value in values.items()
    }
    captioning, aggregation = settings.config.captioning, settings.config.aggregation
    askers = {"segments": captioning.segments, "leaves": captioning.leaves}
    captions = settings.identities.get("caption", {})
    models = {
        f"action100m.{field}.model": _named(captions[captioner], askers[captioner])
        for field, captioner in FIELDS.items()
        if captioner in captions
    }
    if "aggregate" in settings.identities:
        models["action100m.gpt.model"] = _named(settings.identities["aggregate"], aggregation)
    return {**metadata, **models}


def _named(identity: dict[str, Any], asker: CaptionerConfig | AggregationConfig | None) -> str:
    """Return a model's name with its revision; for a local folder, with the checksum of its files.

    The identity of a local folder is its checksum alone.
    """
    model: str = identity["model"]
    if asker is None or asker.model is None or not model.startswith("sha256:"):
        return model
    return f"{Path(asker.model.model).name} {model}"
