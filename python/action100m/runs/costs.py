"""Outcomes and token costs of the requests that a stage makes to its models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from action100m.aggregation.part import ANNOTATION, Effort, read_effort
from action100m.inference import Outcome, Usage
from action100m.inference.answers import Journal
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest, Video
from action100m.text import counted

_MOST_REASONS = 3
_KEPT = (Outcome.COMPLETE.value, Outcome.TRUNCATED.value)


@dataclass
class Costs:
    """Costs summed over the answers of one or several videos.

    Attributes:
        outcomes: number of answers by outcome.
        reasons: number of missing answers by reason.
        usage: tokens and retries.
        effort: effort of stage 3; all 0 for other stages.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)
    effort: Effort = field(default_factory=Effort)

    def add(self, other: Costs) -> None:
        """Add the costs of another video."""
        self.outcomes.update(other.outcomes)
        self.reasons.update(other.reasons)
        self.usage += other.usage
        self.effort += other.effort


_COSTS = TypeAdapter(Costs)
_FOOTER = "action100m.costs"


def with_costs(part: pa.Table) -> pa.Table:
    """Return a part of a stage that asks models, with its costs in the footer."""
    return part.replace_schema_metadata({_FOOTER: _COSTS.dump_json(_costs_of(part))})


def read_costs(
    folder: RunFolder, manifest: Manifest, stage: StageKey
) -> Iterator[tuple[Video, Costs]]:
    """Yield the costs of every done video, read from the footers of the parts, not their rows.

    Raises:
        RunStoppedError: a part is damaged.
    """
    done = folder.done_keys(stage)
    for video in manifest.videos:
        if video.key in done:
            footer = folder.part_footer(stage, video.key, _FOOTER)
            if footer is None:  # an early version wrote the part
                yield video, _costs_of(folder.read_part(stage, video.key))
            else:
                yield video, _COSTS.validate_json(footer)


def describe_unfinished(folder: RunFolder, manifest: Manifest, stage: StageKey) -> Iterator[str]:
    """Yield lines about the answers that are kept for videos that failed or were interrupted."""
    keys = folder.unfinished_keys(stage) & {video.key for video in manifest.videos}
    whole = Costs()
    for key in sorted(keys):
        for answer in Journal(folder.journal(stage, key)).read().values():
            whole.add(Costs(Counter([answer.outcome]), usage=answer.usage))
    for line in describe_costs(whole):
        yield f"kept for {counted(len(keys), 'unfinished video')}: {line}"


def describe_costs(whole: Costs) -> Iterator[str]:
    """Yield human-readable lines; none if no model was asked."""
    outcomes = ", ".join(
        f"{count:,} {outcome.value}" for outcome, count in whole.outcomes.items() if count
    )
    if not outcomes:
        return
    usage, effort = whole.usage, whole.effort
    cached = f" ({usage.cached:,} of them cached)" if usage.cached else ""
    retries = f", {counted(usage.retries, 'repeated request')}" if usage.retries else ""
    yield f"answers: {outcomes}"
    yield f"tokens: {usage.prompt:,} read{cached}, {usage.completion:,} written{retries}"
    if effort.segments:
        yield (
            f"annotated: {effort.annotated:,} of {counted(effort.segments, 'segment')} "
            f"({effort.annotated / effort.segments:.1%}) in {counted(effort.rounds, 'round')} "
            f"after the drafts, {counted(effort.corrections, 'correction')}"
        )
    if effort.unrefined:
        yield f"without all of their rounds: {counted(effort.unrefined, 'annotation')}"
    if effort.shortened:
        yield f"shortened to fit the limits: {counted(effort.shortened, 'prompt')}"
    for reason, count in whole.reasons.most_common(_MOST_REASONS):
        yield f"missing: {count:,} because: {reason}"


def _costs_of(answers: pa.Table) -> Costs:
    # An annotation results from several requests, which have rows of their own.
    request = pc.not_equal(answers.column("key"), "")
    wanted = pc.invert(pc.starts_with(answers.column("field"), f"{ANNOTATION}."))
    kept = pc.is_in(answers.column("outcome"), pa.array(_KEPT))
    missing = answers.filter(pc.and_(wanted, pc.invert(kept)))
    # Nodes with the same frames share an answer, whose cost counts once.
    _, paid = np.unique(answers.column("key").to_numpy(zero_copy_only=False), return_index=True)
    once = answers.take(paid)
    sums = {each.name: pc.sum(once.column(each.name)).as_py() or 0 for each in fields(Usage)}
    return Costs(
        Counter(map(Outcome, answers.filter(request).column("outcome").to_pylist())),
        Counter(missing.column("reason").to_pylist()),
        Usage(**sums),
        read_effort(answers),
    )
