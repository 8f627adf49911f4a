"""Validation of Parquet files against the published format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from action100m.dataset.columns import Batch
from action100m.dataset.findings import Errors, Finding, Report
from action100m.dataset.identity import NodeIds, Uids
from action100m.dataset.rules import RULES, Breach
from action100m.dataset.schema_diff import schema_differences
from action100m.dataset.statistics import Statistics

ROWS_AT_ONCE = 64
_SHARD = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})\.parquet")


def validate(paths: Iterable[Path]) -> Report:
    """Check every invariant of the format, and measure the published statistics.

    A file that cannot be read, or has another schema, is an error, and the rest goes on. Text is
    held for a row group at most; of every node an id of 24 bytes is kept.

    Args:
        paths: Parquet files, and folders whose ``*.parquet`` are meant; together one dataset.
    """
    return _Validation().run(paths)


class _Validation:
    def __init__(self) -> None:
        self._errors = Errors()
        self._uids = Uids()
        self._node_ids = NodeIds()
        self._statistics = Statistics()

    def run(self, paths: Iterable[Path]) -> Report:
        files = list(dict.fromkeys(self._files(paths)))
        for file in files:
            try:
                self._check_file(file)
            except (OSError, pa.ArrowException) as error:
                self._fail(file, "file", f"It cannot be read as Parquet: {_first_line(error)}")
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

    def _fail(self, file: Path, rule: str, message: str) -> None:
        self._errors.add(Finding(file, rule, message))

    def _files(self, paths: Iterable[Path]) -> Iterator[Path]:
        for path in paths:
            if not path.is_dir():
                yield path
                continue
            files = sorted(path.glob("*.parquet"))
            if not files:
                self._fail(path, "file", "The folder holds no *.parquet file.")
            for message in _missing_shards(files):
                self._fail(path, "file", message)
            yield from files

    def _check_file(self, path: Path) -> None:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            differences = list(schema_differences(file.schema_arrow))
            for difference in differences:
                self._fail(path, "schema", difference)
            if differences:
                return
            first_row = 0
            for group in range(file.num_row_groups):
                try:
                    self._check_group(path, file, group, first_row)
                except (OSError, pa.ArrowException) as error:
                    reason = f"Row group {group} (from row {first_row}) cannot be read: "
                    self._fail(path, "file", reason + _first_line(error))
                first_row += file.metadata.row_group(group).num_rows

    def _check_group(self, path: Path, file: pq.ParquetFile, group: int, first_row: int) -> None:
        for rows in file.iter_batches(ROWS_AT_ONCE, row_groups=[group]):
            rows.validate(full=True)
            batch = Batch(rows, first_row)
            for rule in RULES:
                for breach in rule(batch):
                    self._report(path, batch, breach)
            for finding in self._uids.add(path, batch):
                self._errors.add(finding)
            self._node_ids.add(path, batch)
            self._statistics.add(batch)
            first_row += len(rows)

    def _report(self, path: Path, batch: Batch, breach: Breach) -> None:
        room = self._errors.room(breach.rule)
        for at in breach.where[:room].tolist():
            row = at if breach.per_row else int(batch.row[at])
            index = None if breach.per_row else at - int(batch.offsets[row])
            node = None if breach.per_row else batch.node_id[at].as_py()
            self._errors.add(
                Finding(
                    file=path,
                    rule=breach.rule,
                    message=breach.say(at),
                    row=batch.first_row + row,
                    uid=batch.uid[row].as_py(),
                    index=index,
                    node=node,
                )
            )
        self._errors.count(breach.rule, max(0, len(breach.where) - room))


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".") + "."


def _missing_shards(files: Iterable[Path]) -> Iterator[str]:
    """A sentence for each series of shards that lacks some that its names promise."""
    series: dict[tuple[str, str], set[int]] = {}
    for file in files:
        if match := _SHARD.fullmatch(file.name):
            series.setdefault((match[1], match[3]), set()).add(int(match[2]))
    for (name, total), there in series.items():
        missing = (number for number in range(int(total)) if number not in there)
        if some := list(islice(missing, 5)):
            first = ", ".join(f"{number:05d}" for number in some)
            yield f"Of {name}-*-of-{total}.parquet only {len(there)} are there; missing: {first}…"
