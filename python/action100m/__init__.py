"""action100m: a folder of instructional videos in, an Action100M-style dataset out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from action100m._core import __version__
from action100m.tree import Dendrogram, Tree, cut, ward

if TYPE_CHECKING:
    from action100m.runs.run import run
    from action100m.segmentation.stage import segment

__all__ = ["Dendrogram", "Tree", "__version__", "cut", "run", "segment", "ward"]

# Imported when first used: a decoding process needs neither Parquet nor the pipeline.
_LAZY = {"run": "action100m.runs.run", "segment": "action100m.segmentation.stage"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'action100m' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
