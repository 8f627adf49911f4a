"""The sizes of a V-JEPA 2 encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import VJEPA2Config


@dataclass(frozen=True)
class Architecture:
    """What decides an encoder's shapes.

    Attributes:
        dimension: of a token.
        heads: of attention, dimension / heads numbers each.
        layers: transformer blocks.
        hidden: width of the blocks' MLP.
        patch: side of a token's square of pixels.
        tubelet: frames of a token.
        crop: side of the square frames.
        frames: of a window in training.
        epsilon: of the layer norms.
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
        """Read the values of a `config.json`, those of transformers' VJEPA2Config.

        Raises:
            ValueError: this code does not compute such a model.
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
        """Numbers of one attention head."""
        return self.dimension // self.heads

    @property
    def short_side(self) -> int:
        """The shorter side, in pixels, that frames are resized to before the crop."""
        return int(self.crop * 256 / 224)

    @property
    def grid(self) -> int:
        """Tokens along each side of a frame."""
        return self.crop // self.patch

    def tubelets(self, frames: int) -> int:
        """How many tubelets a window of so many frames has.

        Raises:
            ValueError: the frames do not fill whole tubelets.
        """
        if frames < 1 or frames % self.tubelet:
            raise ValueError(
                f"A window of {frames} frames does not fill tubelets of {self.tubelet} frames: "
                f"take a multiple of {self.tubelet}."
            )
        return frames // self.tubelet

    def operations(self, frames: int) -> float:
        """Floating point operations (multiplications and additions) of one window."""
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
