"""What the models of a stage were asked, and what it cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from action100m.inference import Outcome, Usage
from action100m.runs.folder import RunFolder, StageKey
from action100m.runs.manifest import Manifest


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
