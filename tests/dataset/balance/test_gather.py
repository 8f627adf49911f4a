"""Reading writes each distinct action once, and each segment, to disk."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import action100m
from action100m.dataset.balance import gather as module
from action100m.dataset.balance.gather import Gathered, gather
from action100m.dataset.read import Dataset
from action100m.dataset.select import Selection

Row = dict[str, Any]
Actions = dict[tuple[str, str], str]


def segments(found: Gathered) -> list[tuple[str, str, str]]:
    """video_uid, node_id and action of each segment, as written to disk."""
    texts, places = found.texts()
    named = dict(zip(places.tolist(), texts.to_pylist(), strict=True))
    return [
        (uid, node, named[place])
        for batch, found_places in found.batches()
        for uid, node, place in zip(
            *(batch.column(n).to_pylist() for n in (0, 1)), found_places.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("at_once", [1, 7, 2**18])
def test_segments_are_gathered_in_order_with_their_actions(
    folder: Path,
    rows: list[Row],
    actions: Actions,
    at_once: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    found = gather(action100m.open(folder), Selection(), tmp_path)
    expected = [(*names, action) for names, action in actions.items()]
    assert segments(found) == expected
    assert found.segments == len(expected)
    counts = Counter(action for *_, action in expected)
    texts, places = found.texts()
    assert texts.to_pylist() == list(counts)  # in the order of first appearance
    assert found.distinct.counts[places].tolist() == list(counts.values())
    nodes = [node for row in rows for node in row["nodes"]]
    briefs = [node["gpt"] and node["gpt"]["action"]["brief"] for node in nodes]
    assert found.null == briefs.count(None)
    assert found.no_action == briefs.count("N/A") + briefs.count("n/a")


def test_only_selected_segments_are_gathered_and_counted(
    folder: Path, rows: list[Row], actions: Actions, tmp_path: Path
) -> None:
    found = gather(action100m.open(folder), Selection(max_level=2), tmp_path)
    chosen = {n["node_id"] for row in rows for n in row["nodes"] if n["level"] <= 2}
    expected = [(*names, action) for names, action in actions.items() if names[1] in chosen]
    assert segments(found) == expected
    assert found.segments + found.null + found.no_action == len(chosen)


class Repeated:
    """A dataset that is read many times over, as one larger."""

    def __init__(self, dataset: Dataset, times: int) -> None:
        self._dataset, self._times = dataset, times

    def batches(self, fields: Any) -> Any:
        for _ in range(self._times):
            yield from self._dataset.batches(fields)


def test_memory_does_not_grow_with_the_segments(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 200)
    dataset = action100m.open(folder)
    peaks = {}
    for times in (1, 4, 40):  # the first warms up
        (tmp_path / str(times)).mkdir()
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        found = gather(Repeated(dataset, times), Selection(), tmp_path / str(times))  # type: ignore[arg-type]
        peaks[times] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 100_000
    assert found.segments > 2000
    assert peaks[40] < peaks[4] + 50_000
