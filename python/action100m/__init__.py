"""action100m turns a folder of instructional videos into an Action100M-style dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from action100m._core import __version__
from action100m.errors import (
    ConfigError,
    DatasetError,
    NothingToDoError,
    RunStoppedError,
    UsageError,
    VideoError,
)
from action100m.tree import Dendrogram, Tree, cut, ward

if TYPE_CHECKING:
    from action100m.config import Config
    from action100m.config_file import load_config
    from action100m.dataset.read import Dataset, Video
    from action100m.dataset.read import open_dataset as open  # noqa: A004 (action100m.open)
    from action100m.dataset.select import Selection
    from action100m.runs.run import RunResult, run
    from action100m.segmentation.stage import segment

__all__ = [
    "Config",
    "ConfigError",
    "Dataset",
    "DatasetError",
    "Dendrogram",
    "NothingToDoError",
    "RunResult",
    "RunStoppedError",
    "Selection",
    "Tree",
    "UsageError",
    "Video",
    "VideoError",
    "__version__",
    "cut",
    "load_config",
    "open",
    "run",
    "segment",
    "ward",
]

# Imported on first use: a decoding process needs neither Parquet nor the pipeline.
_LAZY = {
    "Config": "action100m.config.Config",
    "Dataset": "action100m.dataset.read.Dataset",
    "RunResult": "action100m.runs.run.RunResult",
    "Selection": "action100m.dataset.select.Selection",
    "Video": "action100m.dataset.read.Video",
    "load_config": "action100m.config_file.load_config",
    "open": "action100m.dataset.read.open_dataset",
    "run": "action100m.runs.run.run",
    "segment": "action100m.segmentation.stage.segment",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'action100m' has no attribute {name!r}")
    module, attribute = _LAZY[name].rsplit(".", 1)
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
