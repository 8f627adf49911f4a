"""Finds a V-JEPA 2 checkpoint and reads the encoder's weights, from safetensors only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError, safe_open

from action100m.segmentation.encoders.vjepa2.architecture import Architecture

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_PREFIXES = ("encoder.", "vjepa2.encoder.")  # of the bare model; below a classifier
_CHUNK = 2**22


class CheckpointError(ValueError):
    """A checkpoint that cannot be had or cannot be used."""


@dataclass(frozen=True)
class Checkpoint:
    """A V-JEPA 2 checkpoint that lies on this machine.

    Attributes:
        source: the hub name or the path that was asked for.
        folder: where its files are.
        revision: the hub's commit, 40 hex digits; None for a local folder.
        architecture: its encoder's sizes.
    """

    source: str
    folder: Path
    revision: str | None
    architecture: Architecture

    @cached_property
    def identity(self) -> str:
        """The hub name with its commit; for a local folder the SHA-256 of what it holds."""
        if self.revision is not None:
            return f"{self.source}@{self.revision}"
        digest = hashlib.sha256()
        for path in [self.folder / _CONFIG, *self._files()]:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"

    def weights(self, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Read the encoder's weights, and only those, onto a device.

        Returns:
            The tensors as they are stored, by transformers' names below `encoder.`.

        Raises:
            CheckpointError: the files are damaged or hold no V-JEPA 2 encoder.
        """
        try:
            weights = dict(_read_encoder(self._files(), str(device)))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"Cannot read the weights of {self.source}: {error}.") from error
        if not weights:
            raise CheckpointError(f"{self.source} holds no weights of a V-JEPA 2 encoder.")
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


def open_checkpoint(source: str, revision: str | None = None) -> Checkpoint:
    """Find a checkpoint, and download it where it is not here.

    Args:
        source: a local folder, or a name on the Hugging Face hub, such as
            "facebook/vjepa2-vitg-fpc64-384". With HF_HUB_OFFLINE=1 the hub's cache is used alone.
        revision: a commit, branch or tag of the hub; by default the newest commit.

    Raises:
        CheckpointError: it cannot be found, or it is not a V-JEPA 2 model.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{source} is a local folder, so it has no revision {revision}.")
        return Checkpoint(source, folder, None, _architecture(folder, source))
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise CheckpointError(f"There is no folder {source} with a checkpoint.")
    folder = _download(source, revision)
    return Checkpoint(source, folder, folder.name, _architecture(folder, source))


def _download(name: str, revision: str | None) -> Path:
    at = f" at revision {revision}" if revision else ""
    patterns = [_CONFIG, _WHOLE, _INDEX, "model-*-of-*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name}{at} is not in this machine's cache, and the Hugging Face hub cannot be "
            "reached or HF_HUB_OFFLINE is set: download it first, or give a local folder."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"The hub has no revision {revision} of {name}.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no folder {name}, and the Hugging Face hub has no such model, or it is "
            "private: check the name and your access."
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"{name} is neither a folder nor a name on the hub.") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"Cannot download {name}{at} from the hub: {error}.") from error


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
        raise CheckpointError(f"{source}: {path.name} does not hold a JSON object.")
    return values


def _read_encoder(files: list[Path], device: str) -> Iterator[tuple[str, torch.Tensor]]:
    for path in files:
        with safe_open(path, framework="pt", device=device) as file:
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                for prefix in _PREFIXES:
                    if key.startswith(prefix):
                        yield key.removeprefix(prefix), file.get_tensor(key)
