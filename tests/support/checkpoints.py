"""Make tiny random checkpoints, and let transformers import torchvision with a CPU PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_kept: list[torch.library.Library] = []


def declare_torchvision_operators() -> None:
    """Declare operators without which torchvision from PyPI (for CUDA) fails with a CPU PyTorch.

    Call it before anything imports torchvision.
    """
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)


declare_torchvision_operators()

from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model  # noqa: E402

from action100m.segmentation.encoders.vjepa2 import (  # noqa: E402
    VJepa2Checkpoint,
    VJepa2Model,
    open_vjepa2,
)

TINY_VJEPA2 = {
    "crop_size": 64,
    "frames_per_clip": 8,
    "hidden_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "mlp_ratio": 2.0,
    "pred_hidden_size": 24,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "num_pooler_layers": 1,
}
VJEPA2_VIT_L = {
    "crop_size": 256,
    "frames_per_clip": 16,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "mlp_ratio": 4.0,
}
VJEPA2_VIT_G = {
    "crop_size": 384,
    "frames_per_clip": 64,
    "hidden_size": 1408,
    "num_attention_heads": 22,
    "num_hidden_layers": 40,
    "mlp_ratio": 48 / 11,
}


def make_vjepa2(classifier: bool = False, seed: int = 0, **sizes: Any) -> torch.nn.Module:
    """Make a V-JEPA 2 of transformers, with weights large enough that every part matters.

    Args:
        classifier: whether to add the head for video classification.
        seed: seed of the weights.
        sizes: options of VJEPA2Config that override the tiny ones.
    """
    config = VJEPA2Config(**{**TINY_VJEPA2, **sizes})
    model = (VJEPA2ForVideoClassification if classifier else VJEPA2Model)(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(centre + config.hidden_size**-0.5 * noise)
    return model


def save_vjepa2(folder: Path, shard: str = "5GB", **arguments: Any) -> Path:
    """Save a model from `make_vjepa2` as a folder with safetensors files of at most `shard`."""
    make_vjepa2(**arguments).save_pretrained(folder, max_shard_size=shard)
    return folder


def pooled(model: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return the reference: transformers' encoder output, averaged over each tubelet's tokens.

    Args:
        model: a model from `make_vjepa2`.
        pixels: (b, frames, 3, crop, crop).
    """
    config = model.config
    encoder = getattr(model, "vjepa2", model).encoder
    with torch.no_grad():
        tokens = encoder(pixels).last_hidden_state
    tubelets = pixels.shape[1] // config.tubelet_size
    return tokens.unflatten(1, (tubelets, -1)).float().mean(2)


def load_vjepa2(checkpoint: VJepa2Checkpoint, **arguments: Any) -> VJepa2Model:
    """Return our model of a checkpoint, ready to encode."""
    model = open_vjepa2(checkpoint, **arguments)
    model.load()
    return model
