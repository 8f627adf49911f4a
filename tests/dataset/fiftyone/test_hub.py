"""The Hub gets the content of the folder, through its real client; the card is valid YAML."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from action100m.dataset.fiftyone.card import card, config
from command import command
from hub import Hub, serving
from previews import annotated_rows, export_rows
from synthetic import write_video

yaml = pytest.importorskip("yaml")
ODD_NAME = 'x: "折り鶴" # <b>\x1b\n---\n[a](b) | *c*'


def test_the_card_is_valid_for_any_name() -> None:
    text = card(ODD_NAME, 1144, 90.0, {"action100m.gpt.model": "a|b<c>", "action100m.x": "y"})
    _, head, body = text.split("---\n", 2)
    fields = yaml.safe_load(head)
    assert fields["pretty_name"] == 'x: "折り鶴" # <b>  --- [a](b) | *c*'
    assert fields["size_categories"] == ["1K<n<10K"]
    assert "fiftyone" in fields["tags"]
    assert "<b>" not in body
    assert "a\\|b&lt;c\\>" in body
    assert yaml.safe_load(config(ODD_NAME)) == {
        "name": fields["pretty_name"],
        "format": "FiftyOneDataset",
        "tags": ["video", "action100m"],
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with serving() as hub:
        yield hub


def push(hub: Hub, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        command("push", folder, "someone/origami", *options),
        env={**os.environ, **settings, "HF_HOME": str(folder.parent / "hf")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_push_makes_the_repository_match_the_folder(hub: Hub, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [2.0])
    rows = annotated_rows(2)
    export_rows(tmp_path, rows, {row["video_uid"]: video for row in rows}, seconds=1.0)
    out = tmp_path / "out"
    (out / "data" / ".tmp-torn").touch()
    (out / "notes.txt").touch()
    hub.files = {"data/gone.mp4": b"x", ".gitattributes": b"y"}
    answer = push(hub, out)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"{hub.url}/datasets/someone/origami/commit/")
    names = ["data/video0000.mp4", "data/video0001.mp4", "metadata.json", "samples.json"]
    names += ["frames.json", "fiftyone.yml", "README.md"]
    assert hub.files == {".gitattributes": b"y"} | {n: (out / n).read_bytes() for n in names}
    (created,) = hub.created
    assert (created["name"], created["type"]) == ("origami", "dataset")
    assert created.get("private") or created.get("visibility") == "private"


def test_a_repository_is_public_only_on_request(hub: Hub, tmp_path: Path) -> None:
    export_rows(tmp_path, annotated_rows(1))
    assert push(hub, tmp_path / "out", "--public").returncode == 0
    assert not hub.created[0].get("private")
    assert hub.created[0].get("visibility") in (None, "public")


def test_a_refusal_by_the_hub_is_a_readable_error(hub: Hub, tmp_path: Path) -> None:
    export_rows(tmp_path, annotated_rows(1))
    hub.refuses = True
    answer = push(hub, tmp_path / "out")
    assert answer.returncode == 2
    assert answer.stderr.startswith("someone/origami cannot be written on the Hugging Face Hub: ")
    assert "403" in answer.stderr
    assert "Traceback" not in answer.stderr
    (tmp_path / "out" / "samples.json").unlink()
    answer = push(hub, tmp_path / "out")
    assert "no samples.json: it is not a finished export" in answer.stderr
