"""Engine for any checkpoint of the transformers library, run in this process in batches."""

from __future__ import annotations

import torch

try:
    from transformers import AutoProcessor  # noqa: F401 (only tried)
except ImportError as error:  # its own message does not help
    raise ImportError(
        "transformers cannot load its processors, usually because torchvision is of another build "
        f"than torch {torch.__version__}. Install both from the same source."
    ) from error

from action100m.inference.transformers.engine import open_transformers

__all__ = ["open_transformers"]
