"""Read datasets row by row: published files, those of a run, or that of a single video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.dataset.columns import ORPHAN, ROOT, Batch
from action100m.dataset.sources import Source, find_sources
from action100m.errors import DatasetError
from action100m.text import markdown
from action100m.tree import Tree

if TYPE_CHECKING:
    from action100m.dataset.search import Hit
    from action100m.dataset.select import Selection

OnError = Callable[[DatasetError], object]


def open_dataset(
    where: str | Path | Sequence[str | Path], on_error: OnError | None = None
) -> Dataset:
    """Open a published dataset or your own; only file names are read at first.

    Args:
        where: one or several of: a Parquet file, a single video's JSON file, a folder of Parquet
            files, a run folder, a glob, or a URL such as ``hf://datasets/NAME/data``.
        on_error: called with each error of reading, which then continues; None: errors are raised.

    Raises:
        FileNotFoundError: no file is found.
        DatasetError: a folder has no Parquet files, or a URL needs a package that is not installed.
    """
    return Dataset(find_sources(where), on_error)


@dataclass(frozen=True)
class Dataset:
    """Videos in the published format, read on demand, a few rows at a time.

    Attributes:
        sources: the files.
        on_error: called with each error of reading; None: errors are raised.
    """

    sources: tuple[Source, ...]
    on_error: OnError | None = None

    def __len__(self) -> int:
        """Return the number of videos, from the footers of the files that can be opened.

        Raises:
            DatasetError: a file cannot be opened, and there is no `on_error`.
        """
        total = 0
        for source in self.sources:
            try:
                total += source.count_rows()
            except DatasetError:
                if self.on_error is None:
                    raise  # otherwise, reading the file reports it
        return total

    def __iter__(self) -> Iterator[Video]:
        return self.videos()

    def __repr__(self) -> str:
        return f"Dataset({self._names()})"

    def _names(self) -> str:
        names = [source.name for source in self.sources]
        return ", ".join([*names[:3], "…"] if len(names) > 3 else names)

    def __contains__(self, uid: object) -> bool:
        """Whether there is a video with that uid."""
        return isinstance(uid, str) and any(self.batches(["nodes.level"], [uid]))

    def __getitem__(self, uid: str) -> Video:
        """Return the video with that uid; raise KeyError if there is none."""
        for video in self.videos(uids=[uid]):
            return video
        raise KeyError(f"There is no video {uid} in {self._names()}.")

    def videos(
        self, fields: Iterable[str] | None = None, uids: Iterable[str] | None = None
    ) -> Iterator[Video]:
        """Yield the videos one by one; for the arguments, see `batches`."""
        for source, batch in self.batches(fields, uids):
            for row in range(len(batch)):
                yield Video(source, batch, row)

    def batches(
        self, fields: Iterable[str] | None = None, uids: Iterable[str] | None = None
    ) -> Iterator[tuple[Source, Batch]]:
        """Yield the rows as flat columns, up to ROWS_AT_ONCE of them at a time.

        Args:
            fields: dotted paths of the fields in the published schema to read, such as
                "nodes.level" or "metadata"; None: all.
            uids: read only these videos; row groups without any of them are skipped.

        Raises:
            DatasetError: a file cannot be read or lacks published fields, and there is no
                `on_error`.
        """
        if isinstance(fields, str) or isinstance(uids, str):
            raise TypeError("fields and uids take several strings, such as a list, not one.")
        wanted = None if uids is None else frozenset(uids)
        ordered = None if wanted is None else sorted(wanted)
        asked = None if fields is None else tuple(fields)
        for source in self.sources:
            for first_row, rows in source.batches(asked, ordered):
                if isinstance(rows, DatasetError):
                    self.refuse(rows)
                else:
                    for start, some in _runs_of(wanted, rows):
                        yield source, Batch(some, first_row + start)

    def sql(self, query: str) -> pa.Table:
        """Run an SQL query with DuckDB; needs `action100m[query]`.

        There are two views. `videos` has video_uid and the fields of `metadata`: title,
        description, view_count, like_count, duration, upload_date, transcript. `segments` has a
        row for each node: video_uid, node_id, parent_id, level, start, "end" (an SQL keyword, so
        quote it), plm_action, plm_caption, llama3_caption, and from `gpt` summary_brief,
        summary_detailed, action_brief, action_detailed, actor. Only columns that the query needs
        are read; row groups that `video_uid = …` rules out are skipped.

        Args:
            query: an SQL query, such as
                ``select action_brief, count(*) from segments group by 1``.

        Raises:
            DatasetError: DuckDB is not installed or rejects the query, or a file cannot be read
                and there is no `on_error`.
        """
        from action100m.dataset.sql import query as ask

        return ask(query, self.sources, self.refuse)

    def search(
        self,
        query: str,
        *,
        model: str | None = None,
        selection: Selection | None = None,
        limit: int = 20,
    ) -> list[Hit]:
        """Find segments by words, or by meaning.

        Args:
            query: words that one text must contain; those in double quotes must be consecutive.
                With a model, a sentence.
            model: a sentence-transformers model, a folder or a name on the Hugging Face Hub, which
                ranks segments by similarity to the query; it needs `action100m[embeddings]`.
            selection: the segments to search; by default all.
            limit: maximum number of hits.

        Returns:
            The best hits first.

        Raises:
            ValueError: the query contains no word, or `limit` is less than 1.
            DatasetError: the model cannot be used, or a file cannot be read and there is no
                `on_error`.
        """
        from action100m.dataset.meaning import ByMeaning
        from action100m.dataset.search import ByWords, Ranking, search
        from action100m.dataset.select import Selection
        from action100m.dataset.words import Words

        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}.")
        ranking: Ranking = ByMeaning(query, model) if model else ByWords(Words(query))
        return search(self, ranking, selection or Selection(), limit)

    def refuse(self, error: DatasetError) -> None:
        """Pass the error to `on_error`; raise it if there is none."""
        if self.on_error is None:
            raise error
        self.on_error(error)


def _runs_of(
    uids: frozenset[str] | None, rows: pa.RecordBatch
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield each run of rows with one of these uids, and its position; None: all rows."""
    if uids is None:
        yield 0, rows
        return
    held = [uid in uids for uid in rows.column("video_uid").to_pylist()]
    row = 0
    for wanted, run in groupby(held):
        length = len(list(run))
        if wanted:
            yield row, rows.slice(row, length)
        row += length


@dataclass(frozen=True, eq=False)
class Video:
    """The row of one video: flat columns over its m segments.

    Attributes:
        source: the file that contains it.
        batch: the rows that it was read with.
        row: its position among them.
    """

    source: Source
    batch: Batch
    row: int

    def __repr__(self) -> str:
        return f"Video({self.uid!r} in {self.source.name})"

    @property
    def uid(self) -> str:
        """The video's uid."""
        return str(self.batch.uid[self.row].as_py())

    @property
    def metadata(self) -> dict[str, Any]:
        """Title, description, counts, duration, date and transcript; {} if there is none."""
        return self.batch.metadata(self.row)

    @cached_property
    def _span(self) -> slice:
        return slice(int(self.batch.offsets[self.row]), int(self.batch.offsets[self.row + 1]))

    def __len__(self) -> int:
        """Return m, the number of segments."""
        return int(self.batch.count[self.row])

    def column(self, path: str) -> pa.Array:
        """Return a field of every segment, such as "gpt.action.brief", (m,); null if missing."""
        return self.batch.field(f"nodes.{path}")[self._span]

    @cached_property
    def tree(self) -> Tree:
        """The tree of segments, in published order, with times as stored.

        Raises:
            DatasetError: it is not a tree in published order; the message names row and node.
        """
        span = self._span
        parents = self.batch.parent[span]
        place = np.arange(len(parents))
        parents = np.where(parents < 0, parents, parents - span.start)
        level = self.batch.level[span]
        if not len(parents):
            raise self._error("It has no segments.")
        self._check(parents == ORPHAN, "names a parent that is not in the video")
        self._check((parents == ROOT) != (place == 0), "must be a root if and only if it is first")
        self._check(parents >= place, "is listed before its parent, or is its own ancestor")
        deeper = level != np.where(parents < 0, -1, level[parents]) + 1
        self._check(deeper, "is not one level below its parent")
        start, end = self.batch.start[span], self.batch.end[span]
        lasting = (start < end) | ((start == end) & (len(start) == 1))  # a single picture
        self._check(~lasting, "does not end after it starts")
        return Tree(start, end, parents, level)

    def _check(self, broken: NDArray[np.bool_], complaint: str) -> None:
        if broken.any():
            at = int(np.flatnonzero(broken)[0])
            raise self._error(f"Node {at} ({self.column('node_id')[at].as_py()}) {complaint}.")

    def _error(self, message: str) -> DatasetError:
        row = self.batch.first_row + self.row
        return self.source.error(
            f"row {row} (video {self.uid}): {message} `action100m validate` lists all errors"
        )

    def markdown(self, level: int | None = None, text: str = "gpt.action.brief") -> str:
        """Return the tree as a nested Markdown list: a line for each segment, depth first.

        Args:
            level: the deepest level to show; None: all.
            text: the field to show; if it is null, the segment's `plm_action` is shown.
        """
        tree = self.tree
        words, instead = self.column(text), self.column("plm_action")
        shown = pc.coalesce(words, instead)
        lines = [f"# {markdown(self.metadata.get('title') or self.uid)}", ""]
        for row in [0, *tree.descendants(0).tolist()]:
            if level is None or tree.level[row] <= level:
                times = f"{tree.start[row]:.2f}-{tree.end[row]:.2f} s"
                line = f"{'  ' * int(tree.level[row])}- {times}"
                said = shown[row].as_py()
                lines.append(f"{line} {markdown(said)}" if said else line)
        return "\n".join(lines) + "\n"
