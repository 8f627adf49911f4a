"""The Hugging Face library reads an export, value by value."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from action100m.dataset.write import write_shards
from action100m.schema import SCHEMA
from rows import as_python, batches

Row = dict[str, Any]
VIDEOS = 7

# In a process of its own: the library warns and reads its settings on import.
_LOAD = """
import sys
from datasets import load_dataset
found = load_dataset("parquet", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
found.with_format("arrow").to_parquet(sys.argv[3])
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="datasets is not installed"
)


def load(files: str, folder: Path) -> pa.Table:
    """Load the files with `load_dataset("parquet", …)`, offline."""
    out = folder / "loaded.parquet"
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    words = [sys.executable, "-c", _LOAD, files, str(folder / "cache"), str(out)]
    result = subprocess.run(
        words, env=os.environ | offline, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return pq.read_table(out)


@pytest.mark.parametrize("annotated", [True, False], ids=["with texts", "without"])
def test_every_value_of_an_export_is_read(annotated: bool, tmp_path: Path) -> None:
    rows = as_python(batches(VIDEOS, annotated=annotated))
    rows[0]["metadata"]["transcript"] = [{"time": "1.5", "text": "fold <b>& cut"}]
    rows[1]["metadata"] = None
    shards = (pa.RecordBatch.from_pylist([row], SCHEMA) for row in rows)
    write_shards(shards, tmp_path / "data", VIDEOS, {"action100m.encoder": "none"}, 3)
    assert load(str(tmp_path / "data" / "*.parquet"), tmp_path).to_pylist() == rows
