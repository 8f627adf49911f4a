"""The findings of a validation: errors with their places, and notes beside published values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from action100m.text import counted

LISTED_PER_RULE = 20


@dataclass(frozen=True)
class Finding:
    """One broken rule at one place; parts of the place that do not apply are None.

    Attributes:
        file: name of the source.
        rule: short name of the rule.
        message: a sentence.
        row: row in the file, from 0.
        uid: the row's video_uid.
        index: position in the row's nodes, from 0.
        node: that node's node_id.
    """

    file: str
    rule: str
    message: str
    row: int | None = None
    uid: str | None = None
    index: int | None = None
    node: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.row is not None:
            place += f", row {self.row} (video {self.uid})"
        if self.index is not None:
            place += f", node {self.index} ({self.node})"
        return f"{place}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class Note:
    """A statistic of the validated data beside that of the published data."""

    what: str
    measured: str
    published: str

    def __str__(self) -> str:
        return f"{self.what}: {self.measured} (published: {self.published})"


@dataclass(frozen=True)
class Report:
    """The result of a validation.

    Attributes:
        errors: at most LISTED_PER_RULE of each rule, in the order of the files.
        totals: number of errors by rule.
        notes: statistics beside the published ones; never a reason to fail.
        files, videos, nodes: how many were read.
    """

    errors: tuple[Finding, ...]
    totals: Mapping[str, int]
    notes: tuple[Note, ...]
    files: int
    videos: int
    nodes: int

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        yield from map(str, self.errors)
        for rule, total in self.totals.items():
            unlisted = total - sum(finding.rule == rule for finding in self.errors)
            if unlisted:
                yield f"… and {unlisted} more of [{rule}]."
        yield from (f"note: {note}" for note in self.notes)
        broken = sum(self.totals.values())
        verdict = counted(broken, "error") if broken else "no errors"
        read = [counted(self.files, "file"), counted(self.videos, "video")]
        yield f"{', '.join(read)}, {counted(self.nodes, 'node')}: {verdict}"

    @property
    def ok(self) -> bool:
        """True if no rule is broken."""
        return not self.totals


@dataclass
class Errors:
    """Collects findings: lists the first ones of each rule, and counts all."""

    listed: list[Finding] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)

    def room(self, rule: str) -> int:
        """Return how many more findings of the rule will be listed."""
        return max(0, LISTED_PER_RULE - self.totals[rule])

    def add(self, finding: Finding) -> None:
        """Count a finding, and list it if there is room."""
        if self.room(finding.rule):
            self.listed.append(finding)
        self.count(finding.rule, 1)

    def count(self, rule: str, more: int) -> None:
        """Count findings that are not listed."""
        if more:
            self.totals[rule] += more
