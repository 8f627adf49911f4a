"""One typed configuration tree, read from TOML."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from action100m.errors import ConfigError
from action100m.tree import ABSORB_ABOVE, MIN_DURATION


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


class MetadataConfig(_Table):
    """What is known about videos besides their frames.

    Attributes:
        languages: of transcripts, the best first; "en" takes en-US too.
        table: a CSV, JSON lines or Parquet file with a row a video; its fields go before those of
            the sidecars.
    """

    languages: list[str] = Field(default=["en"], min_length=1)
    table: str | None = None


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


class TransformersConfig(_Table):
    """A model in this process, through transformers: whatever the library has, batch by batch.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag of the hub; run.toml holds the commit that it meant.
        device: "cuda", "cuda:1" or "cpu".
        precision: of the weights.
        batch: requests at once.
    """

    engine: Literal["transformers"]
    model: str
    revision: str | None = None
    device: str = "cuda"
    precision: Literal["bf16", "float32"] = "bf16"
    batch: int = Field(default=8, ge=1)


class VllmConfig(_Table):
    """A model in this process, through vLLM: the fastest on GPUs, for the models that it has.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag of the hub; run.toml holds the commit that it meant.
        precision: of the weights; "auto" takes that of the checkpoint.
        tensor_parallel: GPUs that one copy of the model is spread over.
        data_parallel: copies of the model.
        memory_share: of each GPU's memory.
        context_length: tokens of prompt and answer; default: the model's own.
        sequences: requests at once, in each copy.
    """

    engine: Literal["vllm"]
    model: str
    revision: str | None = None
    precision: Literal["auto", "bf16", "float32"] = "auto"
    tensor_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    memory_share: float = Field(default=0.9, gt=0, le=1)
    context_length: int | None = Field(default=None, ge=1)
    sequences: int = Field(default=256, ge=1)


class OpenAIConfig(_Table):
    """Any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, a provider.

    Attributes:
        model: the name that the servers know it by.
        revision: for the record only: what the server's owner says it runs.
        urls: of the servers, each up to and with "/v1".
        key_variable: the environment variable that holds the key, if the servers want one.
        key_file: or the file that holds it.
        concurrency: requests at once, at each server.
        timeout_seconds: without an answer before a request is tried again.
        attempts: at a request that meets a failing server; a busy one is waited for.
        tokenizer: hub name or local folder; stage 3 counts with it.
        context_length: tokens of prompt and answer, where the servers do not tell.
    """

    engine: Literal["openai"]
    model: str
    revision: str | None = None
    urls: list[Annotated[str, Field(pattern="^https?://")]] = Field(min_length=1)
    key_variable: str | None = None
    key_file: str | None = None
    concurrency: int = Field(default=64, ge=1)
    timeout_seconds: float = Field(default=600.0, gt=0)
    attempts: int = Field(default=6, ge=1)
    tokenizer: str | None = None
    context_length: int | None = Field(default=None, ge=1)


EngineConfig = TransformersConfig | VllmConfig | OpenAIConfig
_ENGINES = ("transformers", "vllm", "openai")
_Engine = Annotated[EngineConfig, Field(discriminator="engine")]


class CaptionerConfig(_Table):
    """A model that captions, and how it is asked.

    Attributes:
        model: the model and what runs it.
        prompt: what it is asked for a caption.
        max_tokens: of an answer.
        temperature, seed: of the sampling; 0 takes the likeliest token.
    """

    model: _Engine
    prompt: str
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0


class SegmentCaptionerConfig(CaptionerConfig):
    """The video captioner, asked twice for every segment (paper, section 3.2).

    Attributes:
        prompt: for the caption.
        action_prompt: for the short action label.
    """

    prompt: str = "Describe this video in detail."
    action_prompt: str = (
        "Name the main action in this video in one short phrase that starts with a verb. "
        "Answer with the phrase alone."
    )


class LeafCaptionerConfig(CaptionerConfig):
    """The image captioner, asked for the middle frame of every leaf.

    Attributes:
        prompt: for the caption.
    """

    prompt: str = "Describe this image in detail."


class CaptioningConfig(_Table):
    """Stage 2, where a model is configured; else captions stay null.

    Attributes:
        segments: captions and action labels of all segments.
        leaves: captions of the leaves' middle frames.
        frames: evenly spaced over a segment, at most.
        side: of the square frames, pixels.
        aspect: how a picture becomes square: "stretch" as the paper's model does itself, "pad"
            with black, or "crop" to the middle.
        attempts: at a caption that fails or comes back empty, each with another seed.
        max_failed: share of a video's captions that may stay null before the video fails.
        memory_gib: of frames that wait or are shown, over all videos at once; a 32-frame clip has
            10 MB at 320 pixels. The decoders wait rather than exceed it.
    """

    segments: SegmentCaptionerConfig | None = None
    leaves: LeafCaptionerConfig | None = None
    frames: int = Field(default=32, ge=1)
    side: int = Field(default=320, ge=16)
    aspect: Literal["stretch", "pad", "crop"] = "stretch"
    attempts: int = Field(default=3, ge=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    memory_gib: float = Field(default=1.0, gt=0)


class AggregationConfig(_Table):
    """Stage 3, where a model is configured; else structured actions stay null.

    Attributes:
        model: the model and what runs it; it must know its tokenizer.
        rounds: of Self-Refine after the draft (the paper: 3).
        max_tokens: of an answer, reasoning among them.
        prompt_tokens: of a draft's prompt, at most; a long video's tree is shortened to it.
        temperature, seed: of the sampling; 0 takes the likeliest token.
        reasoning_effort: for models that take one.
        attempts: at an answer that fails or cannot be used; the model is shown what is wrong.
        max_failed: share of a video's annotations that may stay null, or without an answer to a
            later round, before the video fails.
        keep_rounds: keep every round's answer in the parts.
    """

    model: _Engine | None = None
    rounds: int = Field(default=3, ge=0)
    max_tokens: int = Field(default=4096, ge=1)
    prompt_tokens: int = Field(default=32768, ge=1024)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    attempts: int = Field(default=3, ge=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    keep_rounds: bool = False


class ExportConfig(_Table):
    """The Parquet shards.

    Attributes:
        rows_per_shard: videos in one file.
    """

    rows_per_shard: int = Field(default=512, ge=1)


class Config(_Table):
    """Everything that decides what a run computes. How many workers do it is not part of it."""

    video: VideoConfig = VideoConfig()
    metadata: MetadataConfig = MetadataConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    cut: CutConfig = CutConfig()
    captioning: CaptioningConfig = CaptioningConfig()
    aggregation: AggregationConfig = AggregationConfig()
    export: ExportConfig = ExportConfig()


_OF_THE_MODEL = ("revision", "context_length", "tokenizer", "reasoning_effort")
"""Settings that are true of one model alone."""

PROFILES = Path(__file__).parent / "profiles"
"""A model set a file, by name: what `--profile` takes."""


def load_config(path: Path | None, profile: str | None = None) -> Config:
    """Read a TOML file: the settings themselves, or a whole run.toml.

    Args:
        path: the file; None: the built-in settings.
        profile: the name of a model set; settings of the file go before its own.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds a wrong or unknown setting; or
            there is no such profile.
    """
    values = read_toml(path) if path is not None else {}
    values = values.get("config", values)
    if profile is not None and isinstance(values, dict):
        values = _merged(_read_profile(profile), values)
    config = parse_config(values, path or f"Profile {profile}")
    if path is None or config.metadata.table is None:
        return config
    return with_table(config, path.parent / config.metadata.table)


def _read_profile(name: str) -> dict[str, Any]:
    names = sorted(file.stem for file in PROFILES.glob("*.toml"))
    if name not in names:
        raise ConfigError(f"There is no profile {name}: choose from {', '.join(names)}.")
    return read_toml(PROFILES / f"{name}.toml")


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    if _differ(base, over, "engine"):
        return over  # settings of one engine mean nothing to another
    if _is_of_another(base, over):
        base = {name: value for name, value in base.items() if name not in _OF_THE_MODEL}
    both = base.keys() & over.keys()
    tables = {key for key in both if isinstance(base[key], dict) and isinstance(over[key], dict)}
    return {**base, **over, **{key: _merged(base[key], over[key]) for key in tables}}


def _is_of_another(base: dict[str, Any], over: dict[str, Any]) -> bool:
    """Whether settings of an engine, or of a stage with one, are about another model."""
    old, new = base.get("model"), over.get("model")
    if isinstance(old, dict) and isinstance(new, dict):
        return _differ(old, new, "engine") or _is_of_another(old, new)
    return _differ(base, over, "model")


def _differ(base: dict[str, Any], over: dict[str, Any], name: str) -> bool:
    return bool(over.get(name, base.get(name)) != base.get(name))


def with_rounds(config: Config) -> Config:
    """The same, keeping every round of stage 3."""
    aggregation = config.aggregation.model_copy(update={"keep_rounds": True})
    return config.model_copy(update={"aggregation": aggregation})


def with_table(config: Config, table: Path) -> Config:
    """The same, with metadata from a table."""
    metadata = config.metadata.model_copy(update={"table": str(table.absolute())})
    return config.model_copy(update={"metadata": metadata})


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


def changes(before: Config, after: Config) -> list[str]:
    """The settings that differ, each with both values."""
    old, new = (dict(_flat(config.model_dump(mode="json"))) for config in (before, after))
    return [
        f"{name}: {old.get(name)} before, {new.get(name)} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(values: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield place + name, value


def _complaint(error: ErrorDetails) -> str:
    places = [str(place) for place in error["loc"]]
    names = [  # without the engine, which pydantic puts into the path
        name
        for name, before in zip(places, ["", *places], strict=False)
        if before != "model" or name not in _ENGINES
    ]
    setting = ".".join(names) or "the settings"
    if error["type"] == "extra_forbidden":
        return f"{setting}: there is no such setting"
    if error["type"] == "missing":
        return f"{setting}: is missing"
    if error["type"] == "union_tag_not_found":
        return f"{setting}.engine: is missing; it must be one of {', '.join(_ENGINES)}"
    if error["type"] == "union_tag_invalid":
        given = error["ctx"]["tag"]
        return f"{setting}.engine: must be one of {', '.join(_ENGINES)}, not {given!r}"
    if error["type"] in ("model_type", "model_attributes_type"):
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
