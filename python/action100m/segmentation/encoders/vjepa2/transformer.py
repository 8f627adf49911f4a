"""The V-JEPA 2 encoder: from the pixels of windows to one vector per tubelet.

A lean forward pass with transformers' weights: queries, keys and values in one product, rotary
tables computed once, fused attention in the layout of that product's result, and the residual
stream in float32, whatever the precision of the products.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from action100m.checkpoint import CheckpointError
from action100m.segmentation.encoders.vjepa2.architecture import Architecture
from action100m.segmentation.encoders.vjepa2.rope import halves_first, rotate, rotation_tables


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        d, hidden = architecture.dimension, architecture.hidden
        self.heads = architecture.heads
        self.norm1 = nn.LayerNorm(d, architecture.epsilon)
        self.qkv = nn.Linear(d, 3 * d, bias=architecture.qkv_bias)
        self.proj = nn.Linear(d, d)
        self.norm2 = nn.LayerNorm(d, architecture.epsilon)
        self.fc1 = nn.Linear(d, hidden)
        self.fc2 = nn.Linear(hidden, d)

    def forward(self, x: torch.Tensor, tables: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Map (b, tokens, d) float32 to the same shape; products are computed in `dtype`."""
        x = x + self.proj(self._attend(self.qkv(self.norm1(x).to(dtype)), tables))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x).to(dtype))))

    def _attend(self, qkv: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        qk, v = qkv.unflatten(-1, (3 * self.heads, -1)).tensor_split([2 * self.heads], 2)
        q, k = rotate(qk, tables).chunk(2, 2)
        # The fused kernels accept strided views, so no copies are needed.
        heads = (t.transpose(1, 2) for t in (q, k, v))
        return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class VisionTransformer(nn.Module):
    """The encoder with spatial pooling, for windows of one length.

    Args:
        architecture: sizes of the encoder.
        frames: frames per window, a multiple of the tubelet.
        dtype: dtype of the products.
    """

    def __init__(self, architecture: Architecture, frames: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.architecture = architecture
        self.frames = frames
        self.dtype = dtype
        tubelets = architecture.tubelets(frames)
        pixels = 3 * architecture.tubelet * architecture.patch**2
        self.embed = nn.Linear(pixels, architecture.dimension)
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(architecture.dimension, architecture.epsilon)
        tables = rotation_tables(architecture, tubelets)
        self.register_buffer("tables", tables, persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode windows.

        Args:
            pixels: (b, frames, 3, crop, crop) prepared frames in `dtype`.

        Returns:
            (b, frames / tubelet, d) float32, the mean over each tubelet's tokens.
        """
        x = self.embed(self._patches(pixels)).float()
        for block in self.blocks:
            x = block(x, self.tables, self.dtype)
        tubelets = self.frames // self.architecture.tubelet
        return self.norm(x).unflatten(1, (tubelets, -1)).mean(2)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        a = self.architecture
        x = pixels.unflatten(4, (a.grid, a.patch)).unflatten(3, (a.grid, a.patch))
        x = x.unflatten(1, (-1, a.tubelet))  # (b, tubelet, frame, colour, row, y, column, x)
        return x.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)


def make_transformer(
    architecture: Architecture,
    weights: Mapping[str, torch.Tensor],
    frames: int,
    dtype: torch.dtype,
) -> VisionTransformer:
    """Build the encoder from a checkpoint's weights, on the device of the weights.

    Args:
        architecture: sizes of the encoder.
        weights: tensors by transformers' names; see `VJepa2Checkpoint.weights`.
        frames: frames per window.
        dtype: dtype of the products; norms and the residual stream are float32.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    with torch.device("meta"):
        blank = VisionTransformer(architecture, frames, dtype)
    # Tables computed on the meta device have no values, so compute them again.
    device = next(iter(weights.values())).device
    blank.tables = rotation_tables(architecture, architecture.tubelets(frames)).to(device)
    try:
        blank.load_state_dict(_translate(architecture, weights, dtype), assign=True)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The weights do not fit the checkpoint's own config.json: {error}"
        ) from error
    return blank.eval().requires_grad_(requires_grad=False)


def _translate(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    left = dict(weights)
    state = {"embed.weight": left.pop("embeddings.patch_embeddings.proj.weight").flatten(1)}
    state["embed.bias"] = left.pop("embeddings.patch_embeddings.proj.bias")
    kinds = ("weight", "bias")
    for kind in kinds:
        state[f"norm.{kind}"] = left.pop(f"layernorm.{kind}")
    for number in range(architecture.layers):
        ours, theirs = f"blocks.{number}", f"layer.{number}"
        for kind in kinds:
            if kind == "weight" or architecture.qkv_bias:
                qkv = [left.pop(f"{theirs}.attention.{part}.{kind}") for part in _QKV]
                state[f"{ours}.qkv.{kind}"] = _fuse(architecture, *qkv)
            for name, other in _SAME.items():
                state[f"{ours}.{name}.{kind}"] = left.pop(f"{theirs}.{other}.{kind}")
    if left:
        raise KeyError(f"{min(left)} is unknown")
    return {
        name: tensor.to(torch.float32 if "norm" in name else dtype)
        for name, tensor in state.items()
    }


_QKV = ("query", "key", "value")
_SAME = {
    "norm1": "norm1",
    "proj": "attention.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def _fuse(
    architecture: Architecture, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    order = halves_first(architecture.head_size).to(query.device)
    heads = (architecture.heads, architecture.head_size)
    query, key = (part.unflatten(0, heads)[:, order].flatten(0, 1) for part in (query, key))
    return torch.cat((query, key, value))
