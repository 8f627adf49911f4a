"""What the models of a stage were asked, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from action100m.inference import Outcome, Usage
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest
from action100m.text import counted

_MOST_REASONS = 3


@dataclass(frozen=True)
class Costs:
    """Sums over the done videos of a stage.

    Attributes:
        outcomes: how many answers ended each way.
        reasons: of the answers that are missing, how often each.
        usage: tokens and retries.
    """

    outcomes: Counter[Outcome]
    reasons: Counter[str]
    usage: Usage


def read_costs(folder: RunFolder, manifest: Manifest, stage: StageKey) -> Costs:
    """Add up what stands in the parts.

    Raises:
        RunStoppedError: a part is damaged.
    """
    costs = Costs(Counter(), Counter(), Usage())
    done = folder.done_keys(stage)
    for video in manifest.videos:
        if video.key in done:
            costs = _plus(costs, folder.read_part(stage, video.key))
    return costs


def describe_costs(costs: Costs) -> Iterator[str]:
    """Lines for a person; none where nothing was asked."""
    outcomes = ", ".join(
        f"{count:,} {outcome.value}" for outcome, count in costs.outcomes.items() if count
    )
    if not outcomes:
        return
    usage = costs.usage
    cached = f" ({usage.cached:,} of them cached)" if usage.cached else ""
    retries = f", {counted(usage.retries, 'repeated request')}" if usage.retries else ""
    yield f"answers: {outcomes}"
    yield f"tokens: {usage.prompt:,} read{cached}, {usage.completion:,} written{retries}"
    for reason, count in costs.reasons.most_common(_MOST_REASONS):
        yield f"missing: {count:,} because: {reason}"


def _plus(costs: Costs, answers: pa.Table) -> Costs:
    # The row of an annotation is what came of several requests, whose rows stand beside it.
    requests = answers.filter(pc.not_equal(answers.column("field"), "gpt"))
    outcomes = Counter(map(Outcome, requests.column("outcome").to_pylist()))
    kept = (Outcome.COMPLETE.value, Outcome.TRUNCATED.value)
    missing = answers.filter(pc.invert(pc.is_in(answers.column("outcome"), pa.array(kept))))
    sums = {field.name: pc.sum(answers.column(field.name)).as_py() or 0 for field in fields(Usage)}
    return Costs(
        costs.outcomes + outcomes,
        costs.reasons + Counter(missing.column("reason").to_pylist()),
        costs.usage + Usage(**sums),
    )
