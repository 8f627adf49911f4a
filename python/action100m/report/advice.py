"""Failures with one cause, taken together, and what to do about them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from action100m.report.data import ReportedVideo
from action100m.text import clean

_EXAMPLES = 12
_OTHERWISE = (
    "Probe the file with ffprobe and play it. If it plays well everywhere, please report it."
)
_INCOMPLETE = (
    "The file is incomplete or damaged. Fetch it again; if it is damaged at its source, a lower "
    "limit on coverage takes what can be decoded."
)
_ADVICE = {
    r"no space|disk full|quota": "Free some disk space and run again.",
    r"permission|not permitted": "Make the file readable for you, then run again.",
    r"does not exist|no such file|vanished": "Put the file back, or leave it out.",
    r"no video stream|only audio": (
        "There are no pictures to segment. Leave the file out, or look for the video that belongs "
        "to it."
    ),
    r"still picture|playlist|not a file": "Leave it out: this is not a video.",
    r"codec|no decoder": "Re-encode the file, for instance to H.264 with ffmpeg.",
    r"\bempty\b|starts with zeros": "Nothing was downloaded. Fetch the file again.",
    r"not a video": "Leave it out, or fetch it again if it should be a video.",
    r"memory": "Run fewer workers at once, or allow each more memory.",
    r"no progress|timed? ?out": (
        "The decoder got stuck. Run again with fewer workers; if it gets stuck alone too, "
        "re-encode the file with ffmpeg."
    ),
    r"killed|ended with status": (
        "The decoder broke down. Run again; if it breaks down again, re-encode the file with "
        "ffmpeg and please report it."
    ),
    r"moov|damaged|trunc|incomplete|cut off|ends (before|inside)|coverage|decoded": _INCOMPLETE,
    r"cannot be read|input/output": "Look after the disk or the network share, then run again.",
    r"sidecar|json": "Correct the sidecar file, or remove it.",
}


def advice(reason: str) -> str:
    """What a person can do about a failure."""
    fitting = (text for words, text in _ADVICE.items() if re.search(words, reason, re.IGNORECASE))
    return next(fitting, _OTHERWISE)


@dataclass
class Cause:
    """Videos that failed alike.

    Attributes:
        reason: what their reasons share; what differs stands as "…". A lone video's in full.
        advice: what to do.
        count: how many there are.
        examples: the first of their uids.
    """

    reason: str
    advice: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Causes:
    """Groups failed videos by cause, in bounded memory.

    Beyond `limit` causes the earliest of a single video gives way, and is only counted.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._causes: dict[str, Cause] = {}
        self._videos = 0

    def add(self, video: ReportedVideo) -> None:
        """Count a failed video in."""
        self._videos += 1
        reason = common_reason(video)
        cause = self._causes.get(reason)
        if cause is None:
            if len(self._causes) >= self._limit and not self._make_room():
                return
            alone = clean(video.reason, 300) or reason
            cause = self._causes[reason] = Cause(alone, advice(reason))
        else:
            cause.reason = reason
        cause.count += 1
        if len(cause.examples) < _EXAMPLES:
            cause.examples.append(clean(video.uid, 80))

    def largest(self, n: int) -> list[Cause]:
        """The `n` causes with the most videos, the largest first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)[:n]

    def rest(self, n: int) -> int:
        """How many videos are not among those of the `n` largest."""
        return self._videos - sum(cause.count for cause in self.largest(n))

    def _make_room(self) -> bool:
        single = next((name for name, cause in self._causes.items() if cause.count == 1), None)
        return single is not None and self._causes.pop(single) is not None


def common_reason(video: ReportedVideo) -> str:
    """The reason without what is the video's own: its path, its uid, numbers, quoted names."""
    reason = video.reason[:2000]
    for own in (video.path, video.uid):
        if len(own) > 3:
            reason = reason.replace(own, "…")
    reason = re.sub(r"'[^']*'|\"[^\"]*\"|\b\d[\d.,:]*(?<![.,:])", "…", reason)
    return clean(reason, 300) or "No reason was recorded."
