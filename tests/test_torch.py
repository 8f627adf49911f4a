"""Batches are the same with any workers, cover all samples once, and resume where they stopped."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from action100m.errors import VideoError
from footage import TIMES, write_footage
from synthetic import read_numbers

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from action100m.torch import Batch, Segments  # noqa: E402

Key = tuple[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.parquet and videos/ of three numbered videos; each segment has a caption."""
    place = tmp_path_factory.mktemp("training")
    write_footage(place, ["first", "second", "third"])
    return place


def segments(place: Path, **options: Any) -> Segments:
    settings = {"videos": place / "videos", "frames": 2, "side": 64, "aspect": "stretch"}
    return Segments(place / "data.parquet", **(settings | options))


def keys(batches: list[Batch]) -> list[Key]:
    return [key for batch in batches for key in zip(batch["uid"], batch["node_id"], strict=True)]


def loaded(dataset: Segments, workers: int = 0) -> list[Batch]:
    return list(DataLoader(dataset, batch_size=None, num_workers=workers))


@pytest.fixture(scope="module")
def nodes(place: Path) -> dict[Key, dict[str, Any]]:
    rows = pq.read_table(place / "data.parquet").to_pylist()
    return {(row["video_uid"], node["node_id"]): node for row in rows for node in row["nodes"]}


def test_frames_texts_and_times_match_the_segments(place: Path, nodes: dict[Key, Any]) -> None:
    for batch in loaded(segments(place, frames=3, batch_size=16, texts=["plm_action", "actor"])):
        assert batch["frames"].dtype == torch.uint8
        assert batch["frames"].shape[1:] == (3, 64, 64, 3)
        for k, key in enumerate(zip(batch["uid"], batch["node_id"], strict=True)):
            node = nodes[key]
            start, end = round(node["start"], 2), round(node["end"], 2)
            assert (batch["start"][k], batch["end"][k]) == (start, end)
            assert batch["level"][k] == node["level"]
            assert batch["texts"]["plm_action"][k] == node["plm_action"]
            actor = node["gpt"] and node["gpt"]["action"]["actor"]
            assert batch["texts"]["actor"][k] == actor
            moments = start + (end - start) * np.array([1, 3, 5]) / 6
            expected = np.searchsorted(TIMES, moments, side="right") - 1
            assert read_numbers(batch["frames"][k].numpy()) == expected.tolist()
            np.testing.assert_allclose(batch["times"][k], TIMES[expected], atol=1e-6)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_and_workers_share_without_gaps(
    world_size: int, place: Path, nodes: dict[Key, Any]
) -> None:
    seen: list[Key] = []
    for rank in range(world_size):
        dataset = segments(place, batch_size=13, rank=rank, world_size=world_size)
        alone = keys(loaded(dataset))
        assert len(loaded(dataset)) == len(dataset)
        assert keys(loaded(dataset, 1)) == alone
        assert keys(loaded(dataset, 2)) == alone
        seen += alone
    assert sorted(seen) == sorted(nodes)


def test_a_saved_state_resumes_with_the_remaining_batches(place: Path) -> None:
    dataset = segments(place, batch_size=7, seed=5)
    dataset.set_epoch(3)
    whole = loaded(dataset)
    state = whole[4]["state"]
    for workers in (0, 2):
        again = segments(place, batch_size=7, seed=5)
        again.load_state_dict(state)
        assert len(again) == len(whole) - 5
        rest = loaded(again, workers)
        assert keys(rest) == keys(whole[5:])
        assert rest[-1]["state"] == whole[-1]["state"]
    ranks = [segments(place, batch_size=4, seed=5, rank=r, world_size=3) for r in range(3)]
    seen = []
    for rank in ranks:
        rank.load_state_dict(state)
        seen += keys(loaded(rank))
    assert sorted(seen) == sorted(keys(whole[5:]))
    again.load_state_dict(state)
    again.set_epoch(3)
    assert keys(loaded(again)) == keys(whole[5:])
    again.set_epoch(3)
    assert keys(loaded(again)) == keys(whole)
    again.load_state_dict(whole[-1]["state"])
    assert loaded(again) == []
    with pytest.raises(ValueError, match="to seed 5, not"):
        segments(place).load_state_dict(state)


def test_epochs_differ_with_persistent_workers(place: Path) -> None:
    dataset = segments(place, batch_size=16)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        epochs.append(keys(list(loader)))
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])
    dataset.set_epoch(0)
    assert keys(loaded(dataset)) == epochs[0]


def test_an_unreadable_video_is_reported_once(
    place: Path, tmp_path: Path, nodes: dict[Key, Any], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "first.mkv").write_bytes(b"broken" * 100)
    (tmp_path / "second.mkv").symlink_to(place / "videos" / "second.mkv")
    with caplog.at_level(logging.WARNING):
        seen = keys(loaded(segments(place, videos=tmp_path, batch_size=20)))
    assert sorted(seen) == sorted(key for key in nodes if key[0] == "second")
    absent, broken = [record.getMessage() for record in caplog.records]
    assert absent == "1 video of the dataset not found: left out."
    assert "first cannot be read" in broken
    with pytest.raises(VideoError, match="None of the 1 segments"):
        loaded(segments(place, videos=tmp_path / "first.mkv"))


def test_ranks_are_those_of_torch_distributed(place: Path) -> None:
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=1, world_size=3)
    try:
        dataset = segments(place, batch_size=9)
    finally:
        torch.distributed.destroy_process_group()
    assert keys(loaded(dataset)) == keys(
        loaded(segments(place, batch_size=9, rank=1, world_size=3))
    )


def test_without_pytorch_the_error_names_what_to_install() -> None:
    script = "import sys; sys.modules['torch'] = None; import action100m.torch"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert "pip install 'action100m[torch]'" in done.stderr


def test_arguments_out_of_range_are_refused(place: Path) -> None:
    for options, complaint in [
        ({"texts": ["title"]}, "no text"),
        ({"frames": 0}, "one frame"),
        ({"rank": 2, "world_size": 2}, "no rank 2"),
        ({"rank": 1}, "both rank and world_size"),
        ({"words": "!"}, "no word"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            segments(place, **options)


def test_negative_seeds_and_epochs_are_refused(place: Path) -> None:
    with pytest.raises(ValueError, match="seed must be at least 0"):
        segments(place, seed=-1)
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        segments(place).set_epoch(-1)
