"""Convert a FiftyOne dataset's folder back to rows in the published format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from action100m.config import ExportConfig
from action100m.dataset.fiftyone.clock import FrameClock
from action100m.dataset.fiftyone.fields import LABELS, TRANSCRIPT
from action100m.dataset.fiftyone.names import uid_of_media
from action100m.dataset.sources import MADE_BY
from action100m.dataset.write import video_row, write_shards
from action100m.errors import DatasetError
from action100m.schema import NO_ACTION, NODE, stored_time
from action100m.text import first_line

Sample = dict[str, Any]
_NOT_SO = (
    KeyError,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
    IndexError,
    pa.ArrowException,
)
_NO_ACTION = dict.fromkeys(("brief", "detailed", "actor"), NO_ACTION)


def import_fiftyone(folder: Path, out: Path) -> list[Path]:
    """Write Parquet shards from a folder in FiftyOne's own format.

    What the preview does not contain is null or missing: segments without a label, captions, and
    everything after the clip. Times are those of the nearest frame. If a segment has a summary but
    lacks an action, the action is "N/A", as published: the preview leaves these out.

    Args:
        folder: contains samples.json and metadata.json, written by `export_fiftyone` or FiftyOne.
        out: the folder of the shards.

    Returns:
        The shards, with videos sorted by uid, which is the name of the media file.

    Raises:
        DatasetError: `folder` has no such dataset, a sample cannot be read, or two have one uid.
        FileExistsError: `out` contains something other than a dataset.
    """
    for name in ("metadata.json", "samples.json"):
        if not (folder / name).is_file():
            raise DatasetError(f"{folder} is not a FiftyOne dataset: it has no {name}.")
    made_by = _made_by(folder / "metadata.json")
    rows: dict[str, pa.RecordBatch] = {}
    file = folder / "samples.json"
    for number, sample in enumerate(read_samples(file)):
        try:
            uid, row = sample_row(sample)
        except _NOT_SO as error:
            raise DatasetError(f"{file}: sample {number}: {_words(error)}") from error
        if uid in rows:
            raise DatasetError(f"{file}: sample {number}: An earlier one has the uid {uid} too.")
        rows[uid] = row
    ordered = (rows[uid] for uid in sorted(rows))
    return write_shards(ordered, out, len(rows), made_by, ExportConfig().rows_per_shard)


def _made_by(file: Path) -> dict[str, str]:
    """Return the models and settings that an export recorded; {} for other datasets."""
    try:
        document = json.loads(file.read_text("utf-8"))
        info = (document.get("info") or {}).get("action100m") or {}
        return {key: str(text) for key, text in info.items() if key.startswith(MADE_BY)}
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{file}: Not a complete FiftyOne metadata.json: {error}.") from error


def read_samples(file: Path) -> Iterator[Sample]:
    """Yield the samples of a samples.json one by one.

    Raises:
        DatasetError: the file is not a complete samples.json.
    """
    decoder = json.JSONDecoder()
    text = file.read_text("utf-8")
    try:
        at = text.index("[", text.index('"samples"')) + 1
        while text[at := _skip(text, at)] != "]":
            sample, at = decoder.raw_decode(text, at)
            yield sample
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{file}: Not a complete FiftyOne samples.json: {error}.") from error


def _skip(text: str, at: int) -> int:
    while text[at] in ", \t\r\n":
        at += 1
    return at


def sample_row(sample: Sample) -> tuple[str, pa.RecordBatch]:
    """Return the uid and the row of one sample.

    Raises:
        KeyError, AttributeError, TypeError, ValueError, OverflowError, IndexError: the sample is
            not as FiftyOne writes it.
    """
    uid = uid_of_media(sample["filepath"])
    media = sample["metadata"]
    clock = FrameClock(media["total_frame_count"], media["duration"])
    nodes = pa.array(_nodes(sample, clock), NODE)
    return uid, video_row(uid, _metadata(sample, clock), nodes)


def _metadata(sample: Sample, clock: FrameClock) -> dict[str, Any]:
    duration = sample.get("full_video_duration")
    return {
        **{name: sample.get(name) for name in ("title", "description")},
        **{name: sample.get(name) for name in ("view_count", "like_count")},
        "duration": None if duration is None else round(duration),
        "upload_date": _day(sample.get("upload_date")),
        "transcript": _transcript(sample.get(TRANSCRIPT), clock),
    }


def _transcript(found: Sample | None, clock: FrameClock) -> list[dict[str, str]] | None:
    if found is None:
        return None
    lines = sorted(found["detections"], key=lambda line: line["support"][0])
    return [
        {"time": str(_time(line["support"][0], clock)), "text": line["label"]} for line in lines
    ]


def _nodes(sample: Sample, clock: FrameClock) -> list[dict[str, Any]]:
    """Return the labelled segments, each once, in the published order."""
    nodes: dict[str, dict[str, Any]] = {}
    for field, path in LABELS.items():
        part, name = path.split(".")
        for label in (sample.get(field) or {}).get("detections", []):
            node = nodes.setdefault(label["node_id"], _node(label, clock))
            node["gpt"][part][name] = label["label"]
    for node in nodes.values():
        summary, action = node["gpt"]["summary"], node["gpt"]["action"]
        if summary:
            node["gpt"]["action"] = _NO_ACTION | action
    return sorted(nodes.values(), key=lambda node: (node["level"], node["start"]))


def _node(label: Sample, clock: FrameClock) -> dict[str, Any]:
    start, end = (_time(frame, clock) for frame in label["support"])
    return {
        "node_id": label["node_id"],
        "parent_id": label["parent_id"],
        "level": label["level"],
        "start": start,
        "end": end,
        "gpt": {"summary": {}, "action": {}},
    }


def _time(frame: int, clock: FrameClock) -> float:
    return stored_time(float(clock.seconds(frame)))


def _day(found: Sample | None) -> str | None:
    """Return MongoDB's extended JSON for a date (ISO text, or ms since 1970) as YYYYMMDD."""
    if found is None:
        return None
    moment = found["$date"]
    if isinstance(moment, str):
        return date.fromisoformat(moment[:10]).isoformat().replace("-", "")
    milliseconds = int(moment["$numberLong"] if isinstance(moment, dict) else moment)
    day = datetime.fromtimestamp(milliseconds / 1000, timezone.utc).date()
    return day.isoformat().replace("-", "")


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"It has no {error}."
    return f"It is not as FiftyOne writes it: {first_line(error)}"
