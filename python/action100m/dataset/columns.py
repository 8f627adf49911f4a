"""Rows of a dataset as flat columns over all their nodes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from action100m.schema import TIME_DECIMALS

ROOT, ORPHAN = -1, -2
_UUID5 = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-5[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"


class Batch:
    """R rows with m nodes between them. Node positions count through all rows.

    Attributes:
        uid: (R,) strings.
        first_row: the first row's number in its file.
        offsets: (R+1,) int64; row r has the nodes from ``offsets[r]`` to ``offsets[r+1]``.
        row: (m,) int64, each node's row, from 0.
        node_id, parent_id, plm_action, plm_caption, llama3_caption: (m,) strings.
        gpt: (m,) structs.
        level: (m,) int64.
        level_missing: (m,) bool; there, `level` is 0.
        start, end: (m,) float64 with the stored float32's value; NaN where null or infinite.
    """

    def __init__(self, rows: pa.RecordBatch, first_row: int) -> None:
        self.first_row = first_row
        self.uid = rows.column("video_uid")
        self._metadata = _fields(rows.column("metadata"))
        nodes = rows.column("nodes")
        self.offsets, self.row = _layout(nodes)
        columns = _fields(nodes.flatten())
        self.node_id, self.parent_id = columns["node_id"], columns["parent_id"]
        self.plm_action, self.plm_caption = columns["plm_action"], columns["plm_caption"]
        self.llama3_caption, self.gpt = columns["llama3_caption"], columns["gpt"]
        self.level_missing = mask(pc.is_null(columns["level"]))
        self.level = columns["level"].fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        self.start, self.end = _seconds(columns["start"]), _seconds(columns["end"])

    @property
    def upload_date(self) -> pa.StringArray:
        """(R,) strings."""
        return self._metadata["upload_date"]

    @property
    def transcript(self) -> pa.ListArray:
        """(R,) lists of time and text."""
        return self._metadata["transcript"]

    @property
    def count(self) -> NDArray[np.int64]:
        """(R,) nodes of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def valid_id(self) -> NDArray[np.bool_]:
        """(m,) True where node_id is a UUID of version 5."""
        return mask(pc.match_substring_regex(self.node_id, _UUID5))

    @cached_property
    def centiseconds(self) -> NDArray[np.float64]:
        """(m,) each segment's length in whole hundredths of a second, from the rounded times."""
        scale = 10**TIME_DECIMALS
        length: NDArray[np.float64] = np.rint(self.end * scale) - np.rint(self.start * scale)
        return length

    @cached_property
    def lone(self) -> NDArray[np.bool_]:
        """(m,) True for the only node of a video."""
        lone: NDArray[np.bool_] = self.count == 1
        return lone[self.row]

    @cached_property
    def parent(self) -> NDArray[np.int64]:
        """(m,) position of the parent; ROOT without a parent_id, ORPHAN where no node has that id.

        Where several nodes of the video have it, the first.
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
        """(m,) position of the parent; its own for a node without one."""
        return np.where(self.parent < 0, np.arange(len(self.row)), self.parent)

    @cached_property
    def children(self) -> NDArray[np.int64]:
        """(m,) how many nodes name each one as their parent."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self.row))

    @cached_property
    def gpt_strings(self) -> dict[str, pa.StringArray]:
        """The five strings of `gpt` by their path, such as "action.brief"; (m,) each."""
        return {
            f"{part}.{name}": strings
            for part, structs in _fields(self.gpt).items()
            for name, strings in _fields(structs).items()
        }

    def rows_with(self, nodes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(R,) True for rows that have a node where `nodes` (m,) is True."""
        return np.bincount(self.row[nodes], minlength=len(self.uid)) > 0


def mask(booleans: pa.BooleanArray) -> NDArray[np.bool_]:
    """An Arrow array of booleans as numpy's; null is False."""
    found: NDArray[np.bool_] = booleans.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def present(values: pa.Array) -> NDArray[np.bool_]:
    """(n,) True where a value is not null."""
    return mask(pc.is_valid(values))


def _fields(structs: pa.StructArray) -> dict[str, pa.Array]:
    """The columns of a struct by name; null where the struct is."""
    names = [field.name for field in structs.type]
    return dict(zip(names, structs.flatten(), strict=True))


def _seconds(stored: pa.FloatArray) -> NDArray[np.float64]:
    seconds = stored.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return np.where(np.isfinite(seconds), seconds, np.nan)


def _layout(lists: pa.ListArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(R+1,) offsets into the flattened values, and (m,) each value's row."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return offsets, np.repeat(np.arange(len(lists)), lengths)
