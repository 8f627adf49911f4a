"""The real FiftyOne, with its database, loads what is exported; its App shows it in a browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from action100m.dataset.fiftyone.fields import LABELS, SCALARS, TRANSCRIPT
from action100m.dataset.fiftyone.read import import_fiftyone
from action100m.dataset.fiftyone.write import Written
from command import command
from hub import serving
from previews import Sample, annotated_rows, export_rows
from synthetic import write_video

pytestmark = pytest.mark.fiftyone

SUPPORT = Path(__file__).resolve().parents[2] / "support"
SECONDS = 20.0


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment for FiftyOne; skip if it, or its database, does not start."""
    pytest.importorskip("fiftyone", reason="FiftyOne is not installed")
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {
        "HOME": str(home),
        "FIFTYONE_DATABASE_DIR": str(home / "db"),
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_VALIDATION": "false",
    }
    words = [sys.executable, "-c", "import fiftyone; fiftyone.list_datasets()"]
    answer = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"FiftyOne does not start: {answer.stderr.strip().splitlines()[-1]}")
    return environment


Exported = tuple[Path, Written, list[Sample]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    rows = annotated_rows(3)
    for number, row in enumerate(rows):
        row["metadata"]["title"] = f"Crane {number} <b>折り鶴</b>"
    rows[1]["video_uid"] = "折り鶴 =2F%2F#?&.é"
    videos = {
        row["video_uid"]: write_video(folder / f"{number}.mp4", [12.0, 43.0], seed=number)
        for number, row in enumerate(rows)
    }
    return folder / "out", *export_rows(folder, rows, videos, seconds=SECONDS)


def load(place: Path | str, environment: dict[str, str], *again: Path) -> dict[str, Any]:
    words = [sys.executable, SUPPORT / "fiftyone_load.py", place, *again]
    answer = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return found


def check(found: dict[str, Any], samples: list[Sample]) -> None:
    """Every sample is there with all its labels, and can be filtered and clipped."""
    assert len(found["samples"]) == len(samples)
    for sample in samples:
        seen = found["samples"][Path(sample["filepath"]).stem]
        assert seen["media"]
        assert seen["upload_date"] == "2020-01-31 00:00:00"
        for field in (*LABELS, TRANSCRIPT):
            assert seen[field] == [
                [d["label"], d["support"], d["_id"]["$oid"]]
                + ([d["node_id"], d["parent_id"], d["level"]] if field in LABELS else [])
                for d in sample[field]["detections"]
            ]
    briefs = [
        [s["_id"]["$oid"], d["support"], d["label"], d["level"]]
        for s in samples
        for d in s["gpt_summary_brief"]["detections"]
    ]
    levels = Counter(level for *_, level in briefs)
    assert found["level"] == [2] * levels[2]
    assert levels[2]
    assert sorted(found["clips"]) == sorted(brief[:3] for brief in briefs)


def test_a_folder_loads(exported: Exported, environment: dict[str, str], tmp_path: Path) -> None:
    folder, _, samples = exported
    found = load(folder, environment, tmp_path / "again")
    check(found, samples)
    ours = {name for name in found["schema"] if "." not in name}
    theirs = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
    assert ours - theirs == {*SCALARS, *LABELS, TRANSCRIPT}
    for name in ("node_id", "parent_id", "level"):
        assert f"gpt_action_brief.detections.{name}" in found["schema"]
    tables = []
    for place in (folder, tmp_path / "again"):
        (shard,) = import_fiftyone(place, tmp_path / f"back-{place.name}")
        tables.append(pq.read_table(shard))
    assert tables[0].equals(tables[1])


def test_the_hub_loads(exported: Exported, environment: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    folder, _, samples = exported
    with serving() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
        settings["HF_HOME"] = str(tmp_path / "hf")
        words = command("push", folder, "someone/origami")
        subprocess.run(words, env=environment | settings, check=True, capture_output=True)
        check(load("someone/origami", environment | settings), samples)


def test_without_media_every_sample_is_read(environment: dict[str, str], tmp_path: Path) -> None:
    _, samples = export_rows(tmp_path, annotated_rows(3))
    found = load(tmp_path / "out", environment)
    assert not any(sample["media"] for sample in found["samples"].values())
    for sample in found["samples"].values():
        sample["media"] = True
    check(found, samples)


def test_the_app_shows_it_in_a_browser(
    exported: Exported, environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("playwright", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pictures = [tmp_path / "grid.png", tmp_path / "opened.png"]
    words = command("app", exported[0], "--port", str(port))
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_for(f"http://localhost:{port}/", server)
            answer = subprocess.run(
                [
                    sys.executable,
                    SUPPORT / "fiftyone_browse.py",
                    f"http://localhost:{port}/",
                    chromium,
                    *pictures,
                ],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )
        finally:
            server.terminate()
    assert answer.returncode == 0, answer.stderr
    grid, opened = json.loads(answer.stdout)
    assert "gpt_summary_brief" in grid
    assert "3 samples" in grid.replace("\n", " ")
    assert "gpt_action_brief" in opened
    assert all(picture.stat().st_size > 20_000 for picture in pictures)


def wait_for(address: str, server: subprocess.Popen[str]) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            assert server.poll() is None, server.stderr and server.stderr.read()
            time.sleep(1)
        else:
            return
    raise AssertionError(f"nothing answers at {address}")
