"""Every broken or unusual file is done, or failed with a reason, and stops nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from action100m.runs.folder import RunFolder
from action100m.runs.manifest import Manifest
from action100m.runs.settings import read_settings
from action100m.segmentation.part import from_table
from command import call

_FAILS = {
    "m_audio_only.mp4": r"only audio\. .* delete it\.$",
    "m_html_named.mp4": r"it is text .* Download it again, or delete it\.$",
    "m_jpeg_named.mp4": r"still picture.*`action100m remove`\.$",
    "m_mjpeg_noindex.avi": r"43 of 60 frames.* Download it again, or lower video\.min_coverage\.$",
    "m_png_named.avi": r"still picture.*`action100m remove`\.$",
    "m_random_named.mkv": r"Not a video file.* Download it again, or delete it\.$",
    "m_trunc_40bytes.mp4": r"index .* Download it again\.$",
    "m_trunc_faststart.mp4": r"60 of 120 frames.* lower video\.min_coverage\.$",
    "m_trunc_nomoov.mp4": r"index .* Download it again\.$",
    "m_zero.mp4": r"empty\. Download it again\.$",
}


@pytest.fixture(scope="module")
def out(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    assert call("run", shared / "damaged", "--out", out).returncode == 3
    return out


def test_usable_files_are_segmented_completely(out: Path, shared: Path) -> None:
    facts = {row["file"]: row for row in json.loads((shared / "damaged/MANIFEST.json").read_text())}
    folder = RunFolder(out)
    stage = read_settings(folder).key("segment")
    done = [v for v in Manifest(folder).videos if folder.part(stage, v.key).exists()]
    assert {video.path.name for video in done} == facts.keys() - _FAILS.keys()
    for video in done:
        segmentation = from_table(folder.read_part(stage, video.key))
        truth = facts[video.path.name]
        assert segmentation.report.frames == truth["frames"], video.path
        assert segmentation.report.end > truth["last_s"], video.path


def test_unusable_files_fail_with_a_reason_and_a_remedy(out: Path) -> None:
    folder = RunFolder(out)
    stage = read_settings(folder).key("segment")
    failed = folder.failed_keys(stage)
    videos = [video for video in Manifest(folder).videos if video.key in failed]
    reasons = {v.path.name: folder.read_failure(stage, v.key).reason for v in videos}
    assert reasons.keys() == _FAILS.keys()
    assert all(re.search(words, reasons[name]) for name, words in _FAILS.items()), reasons


def test_the_dataset_is_valid(out: Path) -> None:
    assert call("validate", out).returncode == 0
    assert pq.read_table(out / "data").num_rows == 35
