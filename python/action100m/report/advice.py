"""Failures with one cause, taken together, and what to do about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from action100m.report.data import ReportedVideo
from action100m.report.text import clean

_EXAMPLES = 12
_ELSEWHERE = (
    "Probe the file with ffprobe and play it. If it plays well everywhere, please report it."
)
_ADVICE = tuple(
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (r"no space|disk (is )?full|quota", "Free some disk space and run the same command again."),
        (
            r"permission|not allowed",
            "Make the file readable for you, then run the same command again.",
        ),
        (r"no such file|file not found|vanished", "Put the file back, or take it off the list."),
        (
            r"(no|without a?) ?video|only audio|audio only",
            "There are no pictures to segment. Leave the file out, or look for the video to it.",
        ),
        (
            r"\bempty\b|no bytes|0 bytes|no frames?\b",
            "There is nothing in it. Fetch the file again.",
        ),
        (
            r"moov|trunc|incomplete|cut off|coverage|could be decoded|were decoded",
            "The file is incomplete or damaged. Fetch it again; if it is damaged at its source, a "
            "lower limit on coverage takes it as it is.",
        ),
        (r"memory", "Run fewer workers at once, or allow each more memory."),
        (
            r"progress|timed? ?out|hung|stall",
            "The decoder got stuck. Run again with fewer workers; if it gets stuck alone too, "
            "re-encode the file with ffmpeg.",
        ),
        (r"sidecar|json", "Correct the sidecar file, or remove it."),
        (
            r"not a video|invalid data|unrecogni[sz]ed|unknown format|cannot be opened|no decoder",
            "This does not look like a video. Leave it out, or fetch it again.",
        ),
    )
)


def advice(reason: str) -> str:
    """What a person can do about a failure."""
    return next((advice for pattern, advice in _ADVICE if pattern.search(reason)), _ELSEWHERE)


@dataclass
class Cause:
    """Videos that failed alike.

    Attributes:
        reason: what their reasons share; what differs stands as "…".
        advice: what to do.
        count: how many there are.
        examples: the first of their uids.
    """

    reason: str
    advice: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Causes:
    """Groups failed videos by cause, in bounded memory: beyond `limit` causes it only counts."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._causes: dict[str, Cause] = {}
        self.others = 0

    def add(self, video: ReportedVideo) -> None:
        """Count a failed video in."""
        reason = common_reason(video)
        cause = self._causes.get(reason)
        if cause is None:
            if len(self._causes) >= self._limit:
                self.others += 1
                return
            cause = self._causes[reason] = Cause(reason, advice(reason))
        cause.count += 1
        if len(cause.examples) < _EXAMPLES:
            cause.examples.append(clean(video.uid, 80))

    def largest(self, n: int) -> list[Cause]:
        """The `n` causes with the most videos, the largest first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)[:n]

    def __len__(self) -> int:
        return len(self._causes)


def common_reason(video: ReportedVideo) -> str:
    """The reason without what is the video's own: its path, its uid, numbers, quoted names."""
    reason = video.reason[:2000]
    for own in (video.path, video.uid):
        if len(own) > 3:
            reason = reason.replace(own, "…")
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|\b\d[\d.,:]*(?<![.,:])", "…", reason)
    return clean(reason, 300) or "No reason was recorded."
