"""V-JEPA 2 video encoders, in PyTorch and TensorRT."""

from __future__ import annotations

try:
    import safetensors  # noqa: F401 (imported to report which package is missing)
    import torch  # noqa: F401 (for the same reason)
    import transformers  # noqa: F401 (for the same reason)
except ImportError as error:
    raise ImportError(
        f"V-JEPA 2 needs {error.name}, which is not installed: pip install 'action100m[vjepa2]'."
    ) from error

from action100m.segmentation.encoders.vjepa2.checkpoint import VJepa2Checkpoint, open_checkpoint
from action100m.segmentation.encoders.vjepa2.model import VJepa2Model, open_vjepa2

__all__ = ["VJepa2Checkpoint", "VJepa2Model", "open_checkpoint", "open_vjepa2"]
