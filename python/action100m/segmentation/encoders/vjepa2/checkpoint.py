"""Find a V-JEPA 2 checkpoint and read the encoder's weights, from safetensors only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from action100m.checkpoint import Checkpoint, CheckpointError, find_checkpoint
from action100m.segmentation.encoders.vjepa2.architecture import Architecture

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_PREFIXES = ("encoder.", "vjepa2.encoder.")  # in the bare model; in a classifier


@dataclass(frozen=True)
class VJepa2Checkpoint(Checkpoint):
    """A V-JEPA 2 checkpoint on this machine.

    Attributes:
        architecture: the sizes of its encoder.
    """

    architecture: Architecture

    def weights(self, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Read the encoder's weights, and only those, onto a device.

        Returns:
            The tensors as stored, by transformers' names without the prefix `encoder.`.

        Raises:
            CheckpointError: the files are damaged or do not contain a V-JEPA 2 encoder.
        """
        try:
            weights = dict(_read_encoder(self._files(), str(device)))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"Cannot read the weights of {self.source}: {error}.") from error
        if not weights:
            raise CheckpointError(f"{self.source} contains no weights of a V-JEPA 2 encoder.")
        return weights

    def _files(self) -> list[Path]:
        index = self.folder / _INDEX
        if index.is_file():
            names = sorted(set(_read_json(index, self.source).get("weight_map", {}).values()))
        else:
            names = [_WHOLE]
        files = [self.folder / Path(name).name for name in names]
        missing = [file.name for file in files if not file.is_file()]
        if missing or not files:
            raise CheckpointError(
                f"{self.source} has no {', '.join(missing) or _WHOLE}: weights are read from "
                "safetensors only."
            )
        return files


def open_checkpoint(source: str, revision: str | None = None) -> VJepa2Checkpoint:
    """Find a checkpoint, and download it if it is not on this machine.

    Args:
        source: a local folder, or a name on the Hugging Face hub, such as
            "facebook/vjepa2-vitg-fpc64-384". With HF_HUB_OFFLINE=1, only the hub's cache is used.
        revision: a commit, branch or tag of the hub; by default the newest commit.

    Raises:
        CheckpointError: it cannot be found, or it is not a V-JEPA 2 model.
    """
    patterns = [_CONFIG, _WHOLE, _INDEX, "model-*-of-*.safetensors"]
    found = find_checkpoint(source, revision, patterns)
    return VJepa2Checkpoint(
        source, found.folder, found.revision, _architecture(found.folder, source)
    )


def _architecture(folder: Path, source: str) -> Architecture:
    path = folder / _CONFIG
    if not path.is_file():
        raise CheckpointError(f"{source} has no {_CONFIG}, so it is not a checkpoint.")
    values = _read_json(path, source)
    kind = values.get("model_type")
    if kind != "vjepa2":
        raise CheckpointError(f"{source} is a model of type {kind!r}, not 'vjepa2'.")
    try:
        return Architecture.of(values)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: {_CONFIG}: {error}") from error


def _read_json(path: Path, source: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: {path.name} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{source}: {path.name} does not contain a JSON object.")
    return values


def _read_encoder(files: list[Path], device: str) -> Iterator[tuple[str, torch.Tensor]]:
    for path in files:
        with safe_open(path, framework="pt", device=device) as file:
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                for prefix in _PREFIXES:
                    if key.startswith(prefix):
                        yield key.removeprefix(prefix), file.get_tensor(key)
