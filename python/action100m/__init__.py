"""action100m: a folder of instructional videos in, an Action100M-style dataset out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from action100m._core import __version__
from action100m.tree import Dendrogram, Tree, cut, ward

if TYPE_CHECKING:
    from action100m.config import Config, ConfigError
    from action100m.runs.errors import NothingToDoError, RunStoppedError, UsageError
    from action100m.runs.run import run
    from action100m.segmentation.stage import segment
    from action100m.video.frames import VideoError

__all__ = [
    "Config",
    "ConfigError",
    "Dendrogram",
    "NothingToDoError",
    "RunStoppedError",
    "Tree",
    "UsageError",
    "VideoError",
    "__version__",
    "cut",
    "run",
    "segment",
    "ward",
]

# Imported when first used: a decoding process needs neither Parquet nor the pipeline.
_LAZY = {
    "Config": "action100m.config",
    "ConfigError": "action100m.config",
    "NothingToDoError": "action100m.runs.errors",
    "RunStoppedError": "action100m.runs.errors",
    "UsageError": "action100m.runs.errors",
    "VideoError": "action100m.video.frames",
    "run": "action100m.runs.run",
    "segment": "action100m.segmentation.stage",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'action100m' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
