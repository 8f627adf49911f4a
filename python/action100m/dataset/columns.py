"""Rows of a dataset as flat columns over all their nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.schema import to_hundredths

ROOT, ORPHAN = -1, -2
TREE_FIELDS = tuple(f"nodes.{name}" for name in ("node_id", "parent_id", "level", "start", "end"))
_DECIMAL = r"^[0-9]+(\.[0-9]+)?$"
_UUID5 = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-5[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"


class Batch:
    """R rows with m nodes in total. Node positions count through all rows.

    If only some fields were read, access to the others raises KeyError.

    Attributes:
        uid: (R,) strings.
        first_row: number of the first row in its file.
        offsets: (R+1,) int64; row r has the nodes ``offsets[r]:offsets[r+1]``.
        row: (m,) int64, row of each node, from 0.
    """

    def __init__(self, rows: pa.RecordBatch, first_row: int) -> None:
        self.first_row = first_row
        self.uid = rows.column("video_uid")
        self._rows = rows
        names = rows.schema.names
        self._metadata, self._nodes = _Columns("metadata"), _Columns("nodes")
        if "metadata" in names:
            self._metadata.update(_fields(rows.column("metadata")))
        self.offsets, self.row = np.zeros(len(rows) + 1, np.int64), np.empty(0, np.int64)
        if "nodes" in names:
            nodes = rows.column("nodes")
            self.offsets, self.row = _layout(nodes)
            self._nodes.update(_fields(nodes.flatten()))

    def __len__(self) -> int:
        return len(self.uid)

    def field(self, path: str) -> pa.Array:
        """Return a field by its path in the schema, such as "metadata.title", (R,), or
        "nodes.gpt.action.brief", (m,); a value is null if anything on the path is."""
        struct, *names = path.split(".")
        try:
            found: pa.Array = {"metadata": self._metadata, "nodes": self._nodes}[struct][names[0]]
            for name in names[1:]:
                found = _fields(found)[name]
        except (KeyError, IndexError, AttributeError, TypeError):
            raise _absent(path) from None
        return found

    def metadata(self, row: int) -> dict[str, Any]:
        """Return the metadata of one row, as far as it was read; {} if it is null."""
        if "metadata" not in self._rows.schema.names:
            raise _absent("metadata")
        found: dict[str, Any] | None = self._rows.column("metadata")[row].as_py()
        return found or {}

    @property
    def upload_date(self) -> pa.StringArray:
        """(R,) strings."""
        return self._metadata["upload_date"]

    @property
    def transcript(self) -> pa.ListArray:
        """(R,) lists of time and text."""
        return self._metadata["transcript"]

    @cached_property
    def lines(self) -> Lines:
        """All lines of the transcripts."""
        _, row = _layout(self.transcript)
        time, text = self.transcript.flatten().flatten()
        decimal = pc.match_substring_regex(time, _DECIMAL)
        seconds = pc.if_else(decimal, time, None).cast(pa.float64())
        return Lines(row, time, seconds.fill_null(np.nan).to_numpy(), text)

    @property
    def node_id(self) -> pa.StringArray:
        """(m,) strings."""
        return self._nodes["node_id"]

    @property
    def parent_id(self) -> pa.StringArray:
        """(m,) strings."""
        return self._nodes["parent_id"]

    @property
    def plm_action(self) -> pa.StringArray:
        """(m,) strings."""
        return self._nodes["plm_action"]

    @property
    def plm_caption(self) -> pa.StringArray:
        """(m,) strings."""
        return self._nodes["plm_caption"]

    @property
    def llama3_caption(self) -> pa.StringArray:
        """(m,) strings."""
        return self._nodes["llama3_caption"]

    @property
    def gpt(self) -> pa.StructArray:
        """(m,) structs."""
        return self._nodes["gpt"]

    @cached_property
    def level_missing(self) -> NDArray[np.bool_]:
        """(m,) True if there is no level; `level` is then 0."""
        return mask(pc.is_null(self._nodes["level"]))

    @cached_property
    def level(self) -> NDArray[np.int64]:
        """(m,) levels."""
        levels = self._nodes["level"].fill_null(0).to_numpy(zero_copy_only=False)
        return np.asarray(levels, np.int64)

    @cached_property
    def start(self) -> NDArray[np.float64]:
        """(m,) seconds, with the value of the stored float32; NaN if null or infinite."""
        return _seconds(self._nodes["start"])

    @cached_property
    def end(self) -> NDArray[np.float64]:
        """(m,) seconds, like `start`."""
        return _seconds(self._nodes["end"])

    @property
    def count(self) -> NDArray[np.int64]:
        """(R,) number of nodes in each row."""
        if "nodes" not in self._rows.schema.names:
            raise _absent("nodes")
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def valid_id(self) -> NDArray[np.bool_]:
        """(m,) True if node_id is a version 5 UUID."""
        return mask(pc.match_substring_regex(self.node_id, _UUID5))

    @cached_property
    def hundredths(self) -> NDArray[np.float64]:
        """(m,) duration of each segment in hundredths of a second, from the rounded times."""
        return to_hundredths(self.end) - to_hundredths(self.start)

    @cached_property
    def lone(self) -> NDArray[np.bool_]:
        """(m,) True for the only node of a video."""
        lone: NDArray[np.bool_] = self.count == 1
        return lone[self.row]

    @cached_property
    def parent(self) -> NDArray[np.int64]:
        """(m,) position of the parent; ROOT without a parent_id, ORPHAN if no node has that id.

        If several nodes of the video have that id, the first one.
        """
        m = len(self.row)
        if not m:
            return np.empty(0, np.int64)
        ids = pa.concat_arrays([self.node_id, self.parent_id]).dictionary_encode()
        codes = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        keys = self.row * (len(ids.dictionary) + 1) + codes[:m]
        wanted = self.row * (len(ids.dictionary) + 1) + codes[m:]
        order = np.argsort(keys, kind="stable")
        at = order[np.minimum(np.searchsorted(keys[order], wanted), m - 1)]
        found = np.where(keys[at] == wanted, at, ORPHAN)
        return np.where(codes[m:] < 0, ROOT, found)

    @cached_property
    def above(self) -> NDArray[np.int64]:
        """(m,) position of the parent; its own position for a node without a parent."""
        return np.where(self.parent < 0, np.arange(len(self.row)), self.parent)

    @cached_property
    def children(self) -> NDArray[np.int64]:
        """(m,) number of nodes that name each node as their parent."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self.row))

    @cached_property
    def gpt_strings(self) -> dict[str, pa.StringArray]:
        """The five strings of `gpt` by path, such as "action.brief"; (m,) each."""
        return {
            f"{part}.{name}": strings
            for part, structs in _fields(self.gpt).items()
            for name, strings in _fields(structs).items()
        }

    def rows_with(self, nodes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return True for rows that have a node for which `nodes` (m,) is True, (R,)."""
        return np.bincount(self.row[nodes], minlength=len(self.uid)) > 0


@dataclass(frozen=True)
class Lines:
    """L lines of transcripts.

    Attributes:
        row: (L,) int64, row of each line, from 0.
        time: (L,) strings.
        seconds: (L,) the times as numbers; NaN if null or not a decimal number.
        text: (L,) strings.
    """

    row: NDArray[np.int64]
    time: pa.StringArray
    seconds: NDArray[np.float64]
    text: pa.StringArray


class _Columns(dict[str, pa.Array]):
    """The fields of `metadata` or `nodes` that were read."""

    def __init__(self, struct: str) -> None:
        super().__init__()
        self._struct = struct

    def __missing__(self, name: str) -> pa.Array:
        raise _absent(f"{self._struct}.{name}")


def _absent(path: str) -> KeyError:
    return KeyError(f"There is no field {path}, or it is not among the fields= that were read.")


def mask(booleans: pa.BooleanArray) -> NDArray[np.bool_]:
    """Return an Arrow array of booleans as a NumPy array; null is False."""
    known = booleans.fill_null(False) if booleans.null_count else booleans
    found: NDArray[np.bool_] = known.to_numpy(zero_copy_only=False)
    return found


def present(values: pa.Array) -> NDArray[np.bool_]:
    """Return True for values that are not null, (n,)."""
    return mask(pc.is_valid(values))


def _fields(structs: pa.StructArray) -> dict[str, pa.Array]:
    """Return the columns of a struct by name; null where the struct is null."""
    names = [field.name for field in structs.type]
    return dict(zip(names, structs.flatten(), strict=True))


def _seconds(stored: pa.FloatArray) -> NDArray[np.float64]:
    seconds = stored.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(seconds), seconds, np.nan)


def _layout(lists: pa.ListArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets into the flattened values, (R+1,), and the row of each value, (m,)."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, np.repeat(np.arange(len(lists)), lengths)
