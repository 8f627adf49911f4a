"""The sizes of a V-JEPA 2 encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import VJEPA2Config


@dataclass(frozen=True)
class Architecture:
    """The values that determine an encoder's shapes.

    Attributes:
        dimension: size of a token.
        heads: number of attention heads, of size dimension / heads.
        layers: number of transformer blocks.
        hidden: width of the blocks' MLP.
        patch: side of a token's square of pixels.
        tubelet: number of frames per token.
        crop: side of the square frames in pixels.
        frames: number of frames of a window in training.
        epsilon: epsilon of the layer norms.
        qkv_bias: whether queries, keys and values have a bias.
    """

    dimension: int
    heads: int
    layers: int
    hidden: int
    patch: int
    tubelet: int
    crop: int
    frames: int
    epsilon: float
    qkv_bias: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Architecture:
        """Read the values of a `config.json`, which are those of transformers' VJEPA2Config.

        Raises:
            ValueError: such a model is not supported.
        """
        config = VJEPA2Config.from_dict(dict(values))
        _check(config)
        return cls(
            dimension=config.hidden_size,
            heads=config.num_attention_heads,
            layers=config.num_hidden_layers,
            hidden=int(config.hidden_size * config.mlp_ratio),
            patch=config.patch_size,
            tubelet=config.tubelet_size,
            crop=config.crop_size,
            frames=config.frames_per_clip,
            epsilon=config.layer_norm_eps,
            qkv_bias=config.qkv_bias,
        )

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.dimension // self.heads

    @property
    def short_side(self) -> int:
        """The shorter side, in pixels, that frames are resized to before the crop."""
        return int(self.crop * 256 / 224)

    @property
    def grid(self) -> int:
        """Number of tokens along each side of a frame."""
        return self.crop // self.patch

    def tubelets(self, frames: int) -> int:
        """Return the number of tubelets in a window of `frames` frames.

        Raises:
            ValueError: the number of frames is not a multiple of the tubelet.
        """
        if frames < 1 or frames % self.tubelet:
            raise ValueError(
                f"A window of {frames} frames does not fill tubelets of {self.tubelet} frames: "
                f"choose a multiple of {self.tubelet}."
            )
        return frames // self.tubelet

    def operations(self, frames: int) -> float:
        """Return the floating-point operations (multiplications and additions) of one window."""
        tokens = self.tubelets(frames) * self.grid**2
        patches = 2 * tokens * 3 * self.tubelet * self.patch**2 * self.dimension
        linear = 2 * tokens * self.dimension * (4 * self.dimension + 2 * self.hidden)
        attention = 4 * tokens**2 * self.dimension
        return float(patches + self.layers * (linear + attention))


def _check(config: Any) -> None:
    square = isinstance(config.patch_size, int) and config.crop_size % config.patch_size == 0
    if not square:
        raise ValueError(
            f"crop_size {config.crop_size} is not a multiple of patch_size {config.patch_size}."
        )
    if config.hidden_size % (2 * config.num_attention_heads):
        raise ValueError(
            f"hidden_size {config.hidden_size} does not split into "
            f"{config.num_attention_heads} attention heads of even size."
        )
    if config.hidden_act != "gelu" or config.in_chans != 3:
        raise ValueError(
            f"hidden_act {config.hidden_act!r} with in_chans {config.in_chans} is not supported, "
            "only 'gelu' with 3."
        )
