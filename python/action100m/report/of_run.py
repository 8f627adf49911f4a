"""Make the report and the figures of a run folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from heapq import nlargest
from itertools import islice
from pathlib import Path

from action100m.aggregation.part import kept_rounds
from action100m.dataset.read import Dataset, open_dataset
from action100m.dataset.stats import measure
from action100m.errors import DatasetError
from action100m.report.charts import SHOWN, charts
from action100m.report.data import (
    DatasetView,
    Refinement,
    ReportedVideo,
    RunSummary,
    Spent,
    StageCosts,
)
from action100m.report.html import write_report
from action100m.report.style import inline, save
from action100m.report.timeline import timeline
from action100m.runs.costs import Costs, describe_costs, read_costs
from action100m.runs.details import Details
from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest, Video
from action100m.runs.segment_stage import read_segmentation
from action100m.runs.settings import read_settings
from action100m.runs.states import State, count_states, find_states
from action100m.segmentation.stage import Segmentation
from action100m.text import clock

_REFINEMENTS, _REFINEMENTS_A_VIDEO = 12, 3
_COSTS = 1000  # videos


def report_run(folder: RunFolder) -> Path:
    """Write RUN/report/index.html.

    Raises:
        UsageError, ConfigError: run.toml is missing or cannot be read.
        RunStoppedError: a part is damaged.
        OSError: the report cannot be written.
    """
    view = _View(folder)
    summary = RunSummary(
        title=str(folder.root),
        created=datetime.now().astimezone().isoformat(" ", "seconds"),
        stages={key.name: count_states(states) for key, states in view.stages.items()},
        config=folder.settings_file.read_text("utf-8"),
        costs={
            key.name: _costs(read_costs(folder, view.manifest, key)) for key in [*view.stages][1:]
        },
        refinements=list(islice(view.refinements(), _REFINEMENTS)),
        dataset=_dataset(folder),
    )
    target = folder.report / "index.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_report(target, summary, view.videos())
    return target


def _costs(found: Iterable[tuple[Video, Costs]]) -> StageCosts:
    whole, videos = Costs(), 0

    def spent() -> Iterator[Spent]:
        nonlocal videos
        for video, costs in found:
            whole.add(costs)
            videos += 1
            usage, effort = costs.usage, costs.effort
            retries = usage.retries + effort.corrections
            yield Spent(
                video.uid,
                usage.prompt,
                usage.cached,
                usage.completion,
                effort.rounds,
                retries,
                effort.shortened,
            )

    most_expensive = nlargest(_COSTS, spent(), key=lambda one: one.prompt + one.completion)
    return StageCosts(list(describe_costs(whole)), most_expensive, videos - len(most_expensive))


def _dataset(folder: RunFolder) -> DatasetView | None:
    if not any(folder.data.glob("*.parquet")):
        return None
    unread: list[DatasetError] = []
    view = view_dataset(open_dataset(folder.root, unread.append))
    if view is not None:
        view.notes.extend(map(str, unread))
    return view


def view_dataset(dataset: Dataset) -> DatasetView | None:
    """Return what a report shows of a dataset, or None if it has no segments.

    Raises:
        DatasetError: the dataset cannot be read.
    """
    stats = measure(dataset)
    if not stats.segments:
        return None
    view = DatasetView(list(stats.lines()))
    try:
        for name, figure in charts(stats):
            view.charts.append((SHOWN[name], inline(figure)))
    except DatasetError as error:  # a report should not fail because `wordcloud` is missing
        view.notes.append(str(error))
    return view


def draw_timelines(folder: RunFolder, suffix: str) -> Iterator[Path]:
    """Draw every segmented video's timeline to RUN/report/timelines; yield each file written.

    Args:
        folder: the run folder.
        suffix: "png" or "svg".
    """
    view = _View(folder)
    target = folder.report / "timelines"
    target.mkdir(parents=True, exist_ok=True)
    for video, segmentation in view.done():
        name = re.sub(r"[^\w.-]+", "_", video.uid)[:60]  # a uid may contain slashes
        path = target / f"{name}-{video.key[:8]}.{suffix}"
        tree = segmentation.tree(view.cut)
        title = view.details.metadata(video).title or video.uid
        save(timeline(tree, segmentation.thumbnails, title), path)
        yield path


class _View:
    """The data of a run that a report reads."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.settings = read_settings(folder)
        self.cut = self.settings.config.cut
        self.kept_rounds = self.settings.config.aggregation.keep_rounds
        self.manifest = Manifest(folder)
        self.details = Details()
        self.stages = {key: find_states(folder, self.manifest, key) for key in self.settings.keys}
        self.segment = self.settings.key("segment")

    def videos(self) -> Iterator[ReportedVideo]:
        """Yield every video with its state in the first stage that is not done."""
        for video in self.manifest.videos:
            states = ((key, found[video.uid]) for key, found in self.stages.items())
            stage, state = next(
                (each for each in states if each[1] is not State.DONE), (self.segment, State.DONE)
            )
            shown = ReportedVideo(
                uid=video.uid,
                path=str(video.path),
                state=state,
                title=self.details.metadata(video).title,
            )
            if state is State.FAILED:
                failure = self.folder.read_failure(stage, video.key)
                shown = replace(shown, reason=failure.reason, coverage=failure.coverage)
            elif state is State.SKIPPED:
                shown = replace(shown, reason="Its file does not exist.")
            yield self._with_tree(shown, video) if self._is_segmented(video) else shown

    def done(self) -> Iterator[tuple[Video, Segmentation]]:
        """Yield the videos that have a tree."""
        for video in self.manifest.videos:
            if self._is_segmented(video):
                yield video, self._read(video)

    def refinements(self) -> Iterator[Refinement]:
        """Yield the longest segments of the videos whose rounds were kept."""
        keys = [key for key in self.stages if key.name == "aggregate" and self.kept_rounds]
        annotated = self.folder.done_keys(keys[0]) if keys else set()
        for video in self.manifest.videos:
            if video.key not in annotated or not self._is_segmented(video):
                continue
            rounds = kept_rounds(self.folder.read_part(keys[0], video.key))
            tree = self._read(video).tree(self.cut)
            longest = sorted(rounds, key=lambda node: (-float(tree.duration[node]), node))
            for node in longest[:_REFINEMENTS_A_VIDEO]:
                times = f"{clock(float(tree.start[node]))} to {clock(float(tree.end[node]))}"
                yield Refinement(video.uid, times, rounds[node])

    def _is_segmented(self, video: Video) -> bool:
        return self.stages[self.segment][video.uid] is State.DONE

    def _read(self, video: Video) -> Segmentation:
        return read_segmentation(self.folder, self.settings, video)

    def _with_tree(self, shown: ReportedVideo, video: Video) -> ReportedVideo:
        segmentation = self._read(video)
        tree = segmentation.tree(self.cut)
        return replace(
            shown,
            duration=segmentation.report.end,
            coverage=segmentation.report.coverage,
            notes=segmentation.notes(tree),
            tree=tree,
            thumbnails=lambda: segmentation.thumbnails,
        )
