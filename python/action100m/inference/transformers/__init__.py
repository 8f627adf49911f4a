"""Any checkpoint that the transformers library knows, in this process, batch by batch."""

from __future__ import annotations

import torch

try:
    from transformers import AutoProcessor  # noqa: F401 (only tried)
except ImportError as error:  # its own words tell nothing
    raise ImportError(
        "transformers cannot load its processors: mostly because torchvision is of another build "
        f"than torch {torch.__version__}. Install both from one place."
    ) from error

from action100m.inference.transformers.engine import open_transformers

__all__ = ["open_transformers"]
