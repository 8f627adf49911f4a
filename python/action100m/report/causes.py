"""Group failures by their cause."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from action100m.report.data import ReportedVideo
from action100m.text import clean

_EXAMPLES = 12
_LENGTH = 500  # characters of a reason


@dataclass
class Cause:
    """Videos that failed for the same reason.

    Attributes:
        reason: what their reasons have in common, with "…" for what differs; the full reason if
            there is only one video.
        count: number of videos.
        examples: uids of the first videos.
    """

    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Causes:
    """Groups failed videos by cause, in bounded memory.

    Beyond `limit` causes, the oldest one with a single video is dropped; its video is only counted.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._causes: dict[str, Cause] = {}
        self._videos = 0

    def add(self, video: ReportedVideo) -> None:
        """Add a failed video."""
        self._videos += 1
        reason = common_reason(video)
        cause = self._causes.get(reason)
        if cause is None:
            if len(self._causes) >= self._limit and not self._make_room():
                return
            alone = clean(video.reason, _LENGTH) or reason
            cause = self._causes[reason] = Cause(alone)
        else:
            cause.reason = reason
        cause.count += 1
        if len(cause.examples) < _EXAMPLES:
            cause.examples.append(clean(video.uid, 80))

    def largest(self, n: int) -> list[Cause]:
        """Return the `n` causes with the most videos, largest first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)[:n]

    def rest(self, n: int) -> int:
        """Return the number of videos that do not belong to the `n` largest causes."""
        return self._videos - sum(cause.count for cause in self.largest(n))

    def _make_room(self) -> bool:
        single = next((name for name, cause in self._causes.items() if cause.count == 1), None)
        return single is not None and self._causes.pop(single) is not None


def common_reason(video: ReportedVideo) -> str:
    """Return the reason without details of the video: its path, uid, numbers and quoted names."""
    reason = video.reason[:2000]
    for own in (video.path, video.uid):
        if len(own) > 3:
            reason = reason.replace(own, "…")
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|\b\d[\d.,:]*(?<![.,:])", "…", reason)
    return clean(reason, _LENGTH) or "No reason was recorded."
