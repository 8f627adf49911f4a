"""The data that a report is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from action100m.runs.states import State
from action100m.segmentation.filmstrip import Thumbnail
from action100m.tree import Tree


@dataclass(frozen=True, eq=False)
class ReportedVideo:
    """One video in the report.

    Attributes:
        uid: name of the video in the dataset.
        path: path of its file.
        state: one of the five states.
        reason: why it failed or was skipped, as a sentence; otherwise "".
        title: title from the sidecar, if any.
        duration: seconds, if known.
        coverage: fraction of the frames that were decoded, 0 to 1, if known.
        notes: anything unusual, such as "3 timestamps were repaired".
        tree: its segments, if any.
        thumbnails: function that returns its pictures; called only for the few videos whose
            pictures the report shows.
    """

    uid: str
    path: str
    state: State
    reason: str = ""
    title: str | None = None
    duration: float | None = None
    coverage: float | None = None
    notes: Sequence[str] = ()
    tree: Tree | None = None
    thumbnails: Callable[[], Sequence[Thumbnail]] = tuple


@dataclass(frozen=True)
class Refinement:
    """The answers for one segment, starting with the draft.

    Attributes:
        uid: uid of the video.
        times: start and end of the segment, as text.
        versions: for each round, texts by field, or None if the round gave no usable answer.
    """

    uid: str
    times: str
    versions: Sequence[Mapping[str, str] | None]


@dataclass(frozen=True)
class Spent:
    """The costs of one video in a stage that uses models.

    Attributes:
        uid: uid of the video.
        prompt: number of tokens read, including `cached`.
        cached: number of tokens read that the model had in its cache.
        completion: number of tokens written.
        rounds: number of refinement rounds.
        retries: number of requests that failed or gave no usable answer.
        shortened: number of segments whose prompts were shortened to fit.
    """

    uid: str
    prompt: int
    cached: int
    completion: int
    rounds: int
    retries: int
    shortened: int


@dataclass(frozen=True)
class StageCosts:
    """The costs of a stage that uses models.

    Attributes:
        lines: the totals, as text.
        videos: the most expensive videos, in descending order.
        left_out: number of cheaper videos that are not listed.
    """

    lines: Sequence[str]
    videos: Sequence[Spent] = ()
    left_out: int = 0


@dataclass(frozen=True)
class DatasetView:
    """The contents of the run's dataset.

    Attributes:
        facts: statistics, as lines of text.
        charts: pairs of a description and an SVG document drawn by this package.
        notes: anything unusual, such as what could not be drawn.
    """

    facts: Sequence[str]
    charts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunSummary:
    """The summary above the list of videos.

    Attributes:
        title: title of the report; usually the path of the run folder.
        created: date and time, as text.
        stages: for each stage, the number of videos in each state.
        config: the resolved configuration, as text.
        costs: the costs of each stage that uses models.
        refinements: a few segments whose rounds were kept.
        dataset: the contents of the dataset, if it has segments.
    """

    title: str
    created: str
    stages: Mapping[str, Mapping[State, int]] = field(default_factory=dict)
    config: str = ""
    costs: Mapping[str, StageCosts] = field(default_factory=dict)
    refinements: Sequence[Refinement] = ()
    dataset: DatasetView | None = None
