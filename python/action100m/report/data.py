"""What a report is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from action100m.segmentation.filmstrip import Thumbnail
from action100m.tree import Tree

State = Literal["failed", "stale", "pending", "skipped", "done"]
STATES: tuple[State, ...] = ("failed", "stale", "pending", "skipped", "done")


@dataclass(frozen=True, eq=False)
class ReportedVideo:
    """One video as the report shows it.

    Attributes:
        uid: the video's name in the dataset.
        path: where its file is.
        state: one of the five states.
        reason: why it failed or was skipped, as a sentence; "" otherwise.
        title: from the sidecar, if any.
        duration: seconds, if known.
        coverage: share of the frames that were decoded, 0 to 1, if known.
        notes: what a reader should know, such as "3 timestamps repaired".
        tree: its segments, if there are any.
        thumbnails: gives its pictures. A callable, because a report shows the pictures of a few
            videos only: it is called for those and no others.
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
    """One segment's answers, the draft first.

    Attributes:
        uid: of the video.
        times: of the segment, as text.
        versions: of each round, texts by field; None where the round gave nothing that can be used.
    """

    uid: str
    times: str
    versions: Sequence[Mapping[str, str] | None]


@dataclass(frozen=True)
class Spent:
    """What one video cost a stage that asks models.

    Attributes:
        uid: of the video.
        prompt: tokens read, `cached` among them.
        cached: tokens that the model had in its cache.
        completion: tokens written.
        rounds: of refinement.
        retries: requests that failed, or whose answer could not be used.
        shortened: segments that were not told all, for want of room.
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
    """What a stage that asks models cost.

    Attributes:
        lines: the sums, in words.
        videos: the dearest ones, dearest first.
        left_out: how many cheaper ones there are.
    """

    lines: Sequence[str]
    videos: Sequence[Spent] = ()
    left_out: int = 0


@dataclass(frozen=True)
class DatasetView:
    """What the run's dataset holds.

    Attributes:
        facts: figures, as lines.
        charts: SVG documents that we drew, each with what it shows in words.
        notes: what a reader should know, such as what could not be drawn.
    """

    facts: Sequence[str]
    charts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunSummary:
    """What stands above the videos.

    Attributes:
        title: of the report; usually the run folder's path.
        created: date and time, as text.
        stages: for each stage, how many videos are in each state.
        config: the resolved configuration, as text.
        costs: for each stage that asked models.
        refinements: a few segments whose rounds were kept.
        dataset: what was captioned, if anything.
    """

    title: str
    created: str
    stages: Mapping[str, Mapping[State, int]] = field(default_factory=dict)
    config: str = ""
    costs: Mapping[str, StageCosts] = field(default_factory=dict)
    refinements: Sequence[Refinement] = ()
    dataset: DatasetView | None = None
