"""Select segments: by level, by duration, leaves or inner ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from action100m.dataset.columns import TREE_FIELDS, Batch
from action100m.errors import UsageError
from action100m.schema import HUNDREDTHS


@dataclass(frozen=True)
class Selection:
    """The segments to select; bounds are inclusive.

    Attributes:
        min_level, max_level: levels; the root is level 0. None: without a bound.
        min_duration, max_duration: seconds.
        leaf: True: leaves only; False: inner segments only; None: both.

    Raises:
        UsageError: a maximum is below its minimum.
    """

    min_level: int = 0
    max_level: int | None = None
    min_duration: float = 0.0
    max_duration: float = inf
    leaf: bool | None = None

    FIELDS = TREE_FIELDS
    """The fields of a batch that `mask` needs."""

    def __post_init__(self) -> None:
        for what in ("level", "duration"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if high is not None and low > high:
                raise UsageError(
                    f"No segment has a {what} of at least {low:g} and at most {high:g}."
                )

    def mask(self, batch: Batch) -> NDArray[np.bool_]:
        """Return True for the selected segments, (m,)."""
        seconds = batch.hundredths / HUNDREDTHS
        chosen: NDArray[np.bool_] = (
            (batch.level >= self.min_level)
            & (seconds >= self.min_duration)
            & (seconds <= self.max_duration)
        )
        if self.max_level is not None:
            chosen &= batch.level <= self.max_level
        if self.leaf is not None:
            chosen &= (batch.children == 0) == self.leaf
        return chosen
