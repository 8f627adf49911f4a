"""Write the report of a run of any size as one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from action100m.files import write_text
from action100m.report.causes import Causes
from action100m.report.colors import branch_positions, palette
from action100m.report.data import (
    DatasetView,
    Refinement,
    ReportedVideo,
    RunSummary,
    StageCosts,
)
from action100m.runs.states import State
from action100m.schema import to_hundredths
from action100m.segmentation.filmstrip import Thumbnail
from action100m.text import clean, counted
from action100m.tree import Tree

MAX_ROWS = 10_000
MAX_TREES = 100
_ROW_BYTES = 4_000_000  # for all rows together, like the limits below
_TREE_SEGMENTS = 200_000
_PICTURE_BYTES = 5_000_000
_CAUSES = 50
_COLORS = 64
_STATES = sorted(State, key=lambda state: state is State.DONE)  # what needs attention comes first
_PAGE = Path(__file__).parent / "page"


def write_report(
    path: Path,
    summary: RunSummary,
    videos: Iterable[ReportedVideo],
    *,
    max_rows: int = MAX_ROWS,
    max_trees: int = MAX_TREES,
) -> None:
    """Write the report of a run atomically.

    `videos` is read once, and only what the page shows is kept, so a run may have any size.

    Args:
        path: the .html file; its folder must exist.
        summary: the summary above the videos.
        videos: the videos, in the order in which the table lists them within a state.
        max_rows: maximum number of videos in the table, failed ones first, done ones last.
        max_trees: maximum number of trees on the page, of the first videos that have one.
    """
    gathered = _gather(videos, max_rows, max_trees)
    write_text(path, _render(summary, gathered))


@dataclass
class _Shown:
    """A video whose tree is on the page."""

    video: ReportedVideo
    tree: Tree
    thumbnails: Sequence[Thumbnail]


@dataclass
class _Gathered:
    counts: Counter[State] = field(default_factory=Counter)
    seconds: float = 0.0
    rows: dict[State, list[str]] = field(default_factory=lambda: {state: [] for state in _STATES})
    shown: list[_Shown] = field(default_factory=list)
    segments: int = 0
    with_tree: int = 0
    causes: Causes = field(default_factory=Causes)


def _gather(videos: Iterable[ReportedVideo], max_rows: int, max_trees: int) -> _Gathered:
    found = _Gathered()
    for video in videos:
        found.counts[video.state] += 1
        if video.state is State.FAILED:
            found.causes.add(video)
        tree = video.tree
        found.seconds += video.duration or 0.0
        found.with_tree += tree is not None
        place = -1
        if (
            tree is not None
            and len(found.shown) < max_trees
            and found.segments + len(tree) <= _TREE_SEGMENTS
        ):
            place = len(found.shown)
            found.segments += len(tree)
            found.shown.append(_Shown(video, tree, video.thumbnails()))
        if len(found.rows[video.state]) < max_rows:
            found.rows[video.state].append(_row(video, place))
    found.rows = _bounded(found.rows, max_rows)
    return found


def _bounded(rows: dict[State, list[str]], max_rows: int) -> dict[State, list[str]]:
    """Return the first rows that fit, failed ones first."""
    kept: dict[State, list[str]] = {state: [] for state in _STATES}
    count = size = 0
    for state in _STATES:
        for row in rows[state]:
            count, size = count + 1, size + len(row.encode())
            if count > max_rows or size > _ROW_BYTES:
                return kept
            kept[state].append(row)
    return kept


def _row(video: ReportedVideo, place: int) -> str:
    leaves = depth = None
    if video.tree is not None:
        leaves, depth = int(video.tree.is_leaf.sum()), video.tree.depth
    return _json(
        [
            _STATES.index(video.state),
            clean(video.uid, 120),
            clean(video.title or "", 160),
            None if video.duration is None else round(video.duration, 2),
            leaves,
            depth,
            None if video.coverage is None else round(video.coverage, 4),
            clean(" · ".join(filter(None, [video.reason[:400], *video.notes])), 300),
            clean(video.path, 240),
            place,
        ]
    )


def _render(summary: RunSummary, found: _Gathered) -> str:
    script = (_PAGE / "report.js").read_text("utf-8")
    shown_rows = sum(map(len, found.rows.values()))
    total = found.counts.total()
    states = [state.value for state in _STATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=clean(summary.title, 200),
        created=clean(summary.created, 60),
        config=summary.config[:100_000].encode("utf-8", "replace").decode(),
        stages={clean(name, 60): counts for name, counts in summary.stages.items()},
        costs={clean(name, 60): _costs(costs) for name, costs in summary.costs.items()},
        refinements=[_refinement(one) for one in summary.refinements],
        dataset=summary.dataset and _dataset(summary.dataset),
        states=states,
        counts=found.counts,
        total=total,
        hours=found.seconds / 3600,
        causes=found.causes.largest(_CAUSES),
        other_causes=found.causes.rest(_CAUSES),
        shown_rows=shown_rows,
        left_out=total - shown_rows,
        trees=len(found.shown),
        with_tree=found.with_tree,
        rows=Markup(f"[{','.join(row for rows in found.rows.values() for row in rows)}]"),
        details=[Markup(detail) for detail in _details(found.shown)],
        state_names=Markup(_json(states)),
        palette=Markup(_json(palette(_COLORS))),
        style=Markup((_PAGE / "report.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        counted=counted,
    )


def _costs(costs: StageCosts) -> dict[str, object]:
    return {
        "lines": [clean(line, 400) for line in costs.lines],
        "videos": [replace(video, uid=clean(video.uid, 120)) for video in costs.videos],
        "left_out": costs.left_out,
    }


def _dataset(view: DatasetView) -> dict[str, object]:
    return {
        "facts": [clean(line, 400) for line in view.facts],
        "charts": [(clean(shown, 200), Markup(svg)) for shown, svg in view.charts],
        "notes": [clean(line, 400) for line in view.notes],
    }


def _refinement(one: Refinement) -> dict[str, object]:
    """Return a table with one row per field and one cell per round."""
    names = dict.fromkeys(name for version in one.versions if version for name in version)
    return {
        "uid": clean(one.uid, 120),
        "times": one.times,
        "rounds": ["draft", *(f"round {k}" for k in range(1, len(one.versions)))],
        "rows": [
            (name, [clean((version or {}).get(name, "-"), 1000) for version in one.versions])
            for name in names
        ],
    }


def _details(shown: Sequence[_Shown]) -> Iterable[str]:
    share = _PICTURE_BYTES // max(1, len(shown))
    for one in shown:
        tree = one.tree
        yield _json(
            {
                "uid": clean(one.video.uid, 120),
                "title": clean(one.video.title or "", 160),
                "path": clean(one.video.path, 240),
                "notes": [clean(note, 200) for note in one.video.notes[:20]],
                "start": to_hundredths(tree.start).astype(int).tolist(),
                "end": to_hundredths(tree.end).astype(int).tolist(),
                "parent": tree.parent.tolist(),
                "color": np.rint(branch_positions(tree) * (_COLORS - 1)).astype(int).tolist(),
                "pictures": [
                    [round(picture.seconds, 2), base64.b64encode(picture.jpeg).decode()]
                    for picture in _thinned(one.thumbnails, share)
                ],
            }
        )


def _thinned(thumbnails: Sequence[Thumbnail], size: int) -> list[Thumbnail]:
    """Return as many evenly spaced pictures as fit into `size` bytes of base64."""
    room = size * 3 // 4
    count = len(thumbnails)
    while count:
        places = (np.arange(count) + 0.5) * len(thumbnails) / count
        picked = [thumbnails[int(place)] for place in places]
        if sum(len(picture.jpeg) for picture in picked) <= room:
            return picked
        count -= 1
    return []


def _json(value: object) -> str:
    """Return JSON that is safe in a script element: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
