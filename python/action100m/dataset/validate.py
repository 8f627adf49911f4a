"""Validate datasets against the published format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePath

from action100m.dataset.columns import Batch
from action100m.dataset.findings import Errors, Finding, Report
from action100m.dataset.identity import NodeIds, Uids
from action100m.dataset.rules import RULES, Breach
from action100m.dataset.running_statistics import RunningStatistics
from action100m.dataset.schema_diff import schema_differences
from action100m.dataset.sources import Source, distinct, find_sources
from action100m.errors import DatasetError

_SHARD = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})\.parquet")


def validate(places: Iterable[str | Path]) -> Report:
    """Check every invariant of the format, and measure the published statistics.

    A file that cannot be read or has another schema is an error, and validation continues. At most
    one row group of text is held in memory, and an id of 24 bytes for every node.

    Args:
        places: places as in `open_dataset`; together they are one dataset.
    """
    return _Validation().run(places)


class _Validation:
    def __init__(self) -> None:
        self._errors = Errors()
        self._uids = Uids()
        self._node_ids = NodeIds()
        self._statistics = RunningStatistics()

    def run(self, places: Iterable[str | Path]) -> Report:
        files = distinct(source for place in places for source in self._sources(str(place)))
        for source in files:
            try:
                self._check_file(source)
            except DatasetError as error:
                self._fail(source.name, "file", error)
        repeated, total = self._node_ids.repeated(self._errors.room("node_id"))
        for finding in repeated:
            self._errors.add(finding)
        self._errors.count("node_id", total - len(repeated))
        return Report(
            errors=tuple(self._errors.listed),
            totals=dict(self._errors.totals),
            notes=tuple(self._statistics.notes()),
            files=len(files),
            videos=self._statistics.videos,
            nodes=self._statistics.nodes,
        )

    def _fail(self, name: str, rule: str, error: DatasetError | str) -> None:
        self._errors.add(Finding(name, rule, str(error).removeprefix(f"{name}: ")))

    def _sources(self, place: str) -> tuple[Source, ...]:
        try:
            sources = find_sources(place)
        except OSError as error:
            self._fail(place, "file", f"{error.strerror or error}.")
            return ()
        except DatasetError as error:
            self._fail(place, "file", error)
            return ()
        if Path(place).is_dir():
            for message in _odd_shards(source.name for source in sources):
                self._fail(place, "file", message)
        return sources

    def _check_file(self, source: Source) -> None:
        differences = list(schema_differences(source.schema()))
        for difference in differences:
            self._fail(source.name, "schema", difference)
        if differences:
            return
        for first_row, rows in source.batches():
            if isinstance(rows, DatasetError):
                self._fail(source.name, "file", rows)
            else:
                self._check(source.name, Batch(rows, first_row))

    def _check(self, name: str, batch: Batch) -> None:
        for rule in RULES:
            for breach in rule(batch):
                self._report(name, batch, breach)
        for finding in self._uids.add(name, batch):
            self._errors.add(finding)
        self._node_ids.add(name, batch)
        self._statistics.add(batch)

    def _report(self, name: str, batch: Batch, breach: Breach) -> None:
        room = self._errors.room(breach.rule)
        for at in breach.where[:room].tolist():
            row = at if breach.per_row else int(batch.row[at])
            index = None if breach.per_row else at - int(batch.offsets[row])
            node = None if breach.per_row else batch.node_id[at].as_py()
            self._errors.add(
                Finding(
                    file=name,
                    rule=breach.rule,
                    message=breach.say(at),
                    row=batch.first_row + row,
                    uid=batch.uid[row].as_py(),
                    index=index,
                    node=node,
                )
            )
        self._errors.count(breach.rule, max(0, len(breach.where) - room))


def _odd_shards(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each series of shards that differs from the total in its names."""
    series: dict[tuple[PurePath, str, str], set[int]] = {}
    for file in map(PurePath, names):
        if match := _SHARD.fullmatch(file.name):
            series.setdefault((file.parent, match[1], match[3]), set()).add(int(match[2]))
    for (_, name, total), there in series.items():
        if extra := sorted(number for number in there if number >= int(total)):
            yield f"{name}-{extra[0]:05d}-of-{total}.parquet exceeds the total in its name."
        there -= {*extra}
        missing = (number for number in range(int(total)) if number not in there)
        if some := list(islice(missing, 5)):
            first = ", ".join(f"{number:05d}" for number in some)
            yield f"Of {name}-*-of-{total}.parquet only {len(there)} exist; missing: {first}…"
