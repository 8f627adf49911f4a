"""A small dataset with its videos, whose frames show their own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from action100m.dataset.write import node_rows, video_row
from rows import annotate, as_python, write_rows
from synthetic import write_numbered
from trees import random_tree

TIMES = np.cumsum([0, *np.random.default_rng(4).integers(40, 100, 179)]) / 1000
"""Times of the frames of each video, in seconds."""


def write_footage(folder: Path, uids: Sequence[str]) -> list[dict[str, Any]]:
    """Write data.parquet and videos/UID.mkv, with a caption for each segment; return the rows."""
    batches = []
    for number, uid in enumerate(uids):
        tree = random_tree(90, seed=number, seconds_per_frame=float(TIMES[-1]) / 90)
        batches.append(video_row(uid, {}, node_rows(uid, tree, annotate(tree))))
    rows = as_python(iter(batches))
    write_rows(folder / "data.parquet", rows)
    (folder / "videos").mkdir()
    milliseconds = np.rint(TIMES * 1000).astype(int).tolist()
    for uid in uids:
        video = folder / "videos" / f"{uid}.mkv"
        write_numbered(video, milliseconds, size=(128, 96), codec="libx264")
    return rows
