"""One typed configuration tree, read from TOML."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from action100m.tree import ABSORB_ABOVE, MIN_DURATION


class ConfigError(ValueError):
    """A configuration that cannot be used, in words for the person who wrote it."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VideoConfig(_Table):
    """How files are read.

    Attributes:
        decoder: "pyav" on the CPU; "dali-gpu" on an NVIDIA GPU, "dali-cpu" for trying it without.
        stride: every stride-th raw frame is sampled.
        min_coverage: share of its frames that a file must yield, or it fails.
        memory_limit_gib: of one decoding process.
        stall_seconds: without progress before a decoder is killed.
    """

    decoder: Literal["pyav", "dali-cpu", "dali-gpu"] = "pyav"
    stride: int = Field(default=4, ge=1)
    min_coverage: float = Field(default=0.9, ge=0, le=1)
    memory_limit_gib: float = Field(default=4.0, gt=0, le=2**20)
    stall_seconds: float = Field(default=60.0, gt=1, le=10**6)


class VJepa2Config(_Table):
    """The V-JEPA 2 encoders.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag of the hub; run.toml holds the commit that it meant.
        device: "cuda", "cuda:1" or "cpu".
        precision: of the matrix products; "fp8" is PyTorch's alone.
        batch: windows at once.
    """

    model: str = "facebook/vjepa2-vitg-fpc64-384"
    revision: str | None = None
    device: str = "cuda"
    precision: Literal["bf16", "float32", "fp8"] = "bf16"
    batch: int = Field(default=4, ge=1)


class SegmentationConfig(_Table):
    """Stage 1, up to the dendrogram.

    Attributes:
        encoder: which frame encoder; "descriptor" needs no model.
        keep_embeddings: store the embeddings in the parts too.
        vjepa2: for the encoders of that name.
    """

    encoder: Literal["descriptor", "vjepa2_torch", "vjepa2_tensorrt"] = "descriptor"
    keep_embeddings: bool = False
    vjepa2: VJepa2Config = VJepa2Config()


class CutConfig(_Table):
    """From the dendrogram to the tree. Changing it decodes nothing.

    Attributes:
        min_duration: seconds that a segment lasts at least; below 0.5 the dataset leaves the
            published format.
        absorb_above: seconds from which on a leaf absorbs short neighbours so as to split.
    """

    min_duration: float = Field(default=MIN_DURATION, ge=0.05)
    absorb_above: float = Field(default=ABSORB_ABOVE, gt=0, allow_inf_nan=True)


class ExportConfig(_Table):
    """The Parquet shards.

    Attributes:
        rows_per_shard: videos in one file.
    """

    rows_per_shard: int = Field(default=512, ge=1)


class Config(_Table):
    """Everything that decides what a run computes. How many workers do it is not part of it."""

    video: VideoConfig = VideoConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    cut: CutConfig = CutConfig()
    export: ExportConfig = ExportConfig()


def load_config(path: Path) -> Config:
    """Read a TOML file: the settings themselves, or a whole run.toml.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds a wrong or unknown setting.
    """
    values = read_toml(path)
    return parse_config(values.get("config", values), path)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain dictionaries.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def parse_config(values: dict[str, Any], source: Path | str) -> Config:
    """Check settings that came from `source`.

    Raises:
        ConfigError: names every wrong or unknown setting.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        complaints = "; ".join(map(_complaint, error.errors()))
        raise ConfigError(f"{source}: {complaints}.") from error


def _complaint(error: ErrorDetails) -> str:
    setting = ".".join(map(str, error["loc"])) or "the settings"
    if error["type"] == "extra_forbidden":
        return f"{setting}: there is no such setting"
    if error["type"] == "model_type":
        return f"{setting}: must be a table of settings, not {error['input']!r}"
    return f"{setting}: {error['msg']}, not {error['input']!r}"


def fingerprint(values: dict[str, Any]) -> str:
    """16 hex digits that change whenever one of the (JSON) values does."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def available_cpus() -> int:
    """The CPUs that this process may use: a cluster's job often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
