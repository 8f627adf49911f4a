"""Convert rows in the published format to FiftyOne's samples, as in samples.json."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from math import inf
from typing import Any

import numpy as np

from action100m.dataset.actions import is_action
from action100m.dataset.columns import TREE_FIELDS, Batch, present
from action100m.dataset.fiftyone.clock import FrameClock
from action100m.dataset.fiftyone.fields import LABELS, TRANSCRIPT
from action100m.text import clean, counted

FIELDS = ("metadata", *TREE_FIELDS, "nodes.gpt")
"""The fields of a batch that `Samples` needs."""


class Samples:
    """The samples of a batch of rows.

    Only annotated segments are in the preview: a segment without `gpt` has no label. Ids are hashes
    of uid, field and node, so that a rerun gives the same ids.
    """

    def __init__(self, batch: Batch, url: str | None) -> None:
        """Select the annotated segments of all rows at once.

        Args:
            batch: a batch with FIELDS.
            url: URL of a video, with "{uid}" in it; None: `full_video_url` is null.
        """
        self._batch, self._url = batch, url
        usable = (batch.start >= 0) & (batch.start < batch.end)
        annotated = present(batch.gpt)
        self._unusable = batch.row[annotated & ~usable]
        self._at = np.flatnonzero(annotated & usable)
        self._first = np.searchsorted(self._at, batch.offsets)
        taken = {field: batch.gpt_strings[path].take(self._at) for field, path in LABELS.items()}
        said = {field: is_action(strings) for field, strings in taken.items()}
        self._texts = {
            field: [text if given else None for text, given in zip(texts, said[field], strict=True)]
            for field, texts in ((name, strings.to_pylist()) for name, strings in taken.items())
        }
        self._node_ids = batch.node_id.take(self._at).to_pylist()
        self._parent_ids = batch.parent_id.take(self._at).to_pylist()

    def duration(self, row: int) -> float:
        """Return the seconds of the whole video, from its segments; 0 if no segment has an end."""
        ends = self._batch.end[self._batch.offsets[row] : self._batch.offsets[row + 1]]
        return float(np.nanmax(ends, initial=0.0))

    def sample(
        self, row: int, clock: FrameClock, filepath: str
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the sample of a row, and a sentence for each thing that could not be used.

        Args:
            row: row of the batch.
            clock: clock of the sample.
            filepath: path of its video, relative to the dataset's folder.
        """
        uid = self._batch.uid[row].as_py()
        problems: list[str] = []
        if broken := int((self._unusable == row).sum()):
            problems.append(f"{counted(broken, 'segment')} without usable times left out")
        sample = {
            "_id": _object_id(uid),
            "filepath": filepath,
            "tags": [],
            "_media_type": "video",
            "_rand": int(_object_id(uid, "_rand")["$oid"][:12], 16) / 16**12,
            "metadata": clock.metadata(),
            **self._scalars(row, uid, problems),
            **self._labels(row, uid, clock),
            TRANSCRIPT: self._transcript(row, uid, clock, problems),
        }
        return sample, [f"{uid}: {problem}." for problem in problems]

    def _scalars(self, row: int, uid: str, problems: list[str]) -> dict[str, Any]:
        found = self._batch.metadata(row)
        lines, duration = found.get("transcript"), found.get("duration")
        levels = self._batch.level[self._batch.offsets[row] : self._batch.offsets[row + 1]]
        return {
            "title": found.get("title"),
            "description": found.get("description"),
            "full_video_url": self._url and self._url.replace("{uid}", uid),
            "upload_date": _date(found.get("upload_date"), problems),
            "view_count": found.get("view_count"),
            "like_count": found.get("like_count"),
            "full_video_duration": None if duration is None else float(duration),
            "transcript": None if lines is None else "\n".join(_said(line) for line in lines),
            "tree_depth": int(levels.max()) if len(levels) else None,
        }

    def _labels(self, row: int, uid: str, clock: FrameClock) -> dict[str, Any]:
        picked = slice(int(self._first[row]), int(self._first[row + 1]))
        at = self._at[picked]
        supports = clock.support(self._batch.start[at], self._batch.end[at]).tolist()
        nodes = [
            {"node_id": node_id, "parent_id": parent_id, "level": level}
            for node_id, parent_id, level in zip(
                self._node_ids[picked],
                self._parent_ids[picked],
                self._batch.level[at].tolist(),
                strict=True,
            )
        ]
        found = {}
        for field, texts in self._texts.items():
            ids = _Ids(uid, field)
            found[field] = _detections(
                _detection(ids.next(node["node_id"]), text, support) | node
                for text, support, node in zip(texts[picked], supports, nodes, strict=True)
                if text is not None and support[0] < support[1]  # else the clip does not show it
            )
        return found

    def _transcript(
        self, row: int, uid: str, clock: FrameClock, problems: list[str]
    ) -> dict[str, Any] | None:
        lines = self._batch.metadata(row).get("transcript")
        if lines is None:
            return None
        timed = [(time, _said(line)) for line in lines if (time := _seconds(line)) is not None]
        if untimed := len(lines) - len(timed):
            problems.append(f"{counted(untimed, 'transcript line')} without a usable time left out")
        timed.sort(key=lambda line: line[0])
        starts = np.array([time for time, _ in timed])
        later = np.searchsorted(starts, starts, side="right")
        ends = np.append(starts, clock.duration)[later]  # a line lasts until the next one begins
        supports = clock.support(starts, ends).tolist()
        ids = _Ids(uid, TRANSCRIPT)
        return _detections(
            _detection(ids.next(str(time)), text, support)
            for (time, text), support in zip(timed, supports, strict=True)
            if time < clock.duration
        )


class _Ids:
    """Ids of one field's detections, never repeated: that would break FiftyOne's `to_clips`."""

    def __init__(self, uid: str, field: str) -> None:
        self._uid, self._field = uid, field
        self._seen: Counter[str] = Counter()

    def next(self, of: str | None) -> dict[str, str]:
        self._seen[str(of)] += 1
        return _object_id(self._uid, self._field, str(of), str(self._seen[str(of)]))


def _object_id(*names: str) -> dict[str, str]:
    digest = hashlib.blake2b("\0".join(names).encode(), digest_size=12)
    return {"$oid": digest.hexdigest()}


def _detections(detections: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"_cls": "TemporalDetections", "detections": list(detections)}


def _detection(object_id: dict[str, str], label: str, support: list[int]) -> dict[str, Any]:
    return {
        "_id": object_id,
        "_cls": "TemporalDetection",
        "tags": [],
        "label": label,
        "support": support,
    }


def _date(text: str | None, problems: list[str]) -> dict[str, str] | None:
    if text is None:
        return None
    try:
        day = datetime.strptime(text, "%Y%m%d").date()
        return {"$date": f"{day.isoformat()}T00:00:00Z"}  # strftime does not pad early years
    except ValueError:
        problems.append(f"upload_date {clean(text, 40)!r} is not a date and left out")
        return None


def _said(line: dict[str, Any] | None) -> str:
    return (line or {}).get("text") or ""


def _seconds(line: dict[str, Any] | None) -> float | None:
    try:
        seconds = float((line or {}).get("time") or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < inf else None
