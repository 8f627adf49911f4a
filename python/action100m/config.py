"""One typed configuration tree."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from action100m.errors import ConfigError
from action100m.files import absolute, require_utf8
from action100m.tree import ABSORB_ABOVE, MIN_DURATION


def _located(name: str, info: ValidationInfo) -> str:
    """Make the path of what exists absolute, as a run may resume from another folder."""
    for base in info.context or ():
        place = base / name
        if name and os.path.exists(place):  # noqa: PTH110 (exists() refuses long names)
            require_utf8(absolute(place))
            return str(absolute(place))
    return name


_Place = Annotated[str, AfterValidator(_located)]
"""A file, or a model: a local folder or a name on the Hugging Face hub."""


def _without_password(url: str) -> str:
    """Refuse what would be written to run.toml and to logs."""
    if re.match("https?://[^/?#]*@", url):
        raise ValueError("must not hold a key or a password: use key_variable or key_file")
    return url


def _variable(name: str) -> str:
    """Refuse the key itself."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("must be the name of an environment variable that holds the key")
    return name


_Url = Annotated[str, Field(pattern="^https?://"), AfterValidator(_without_password)]
_Variable = Annotated[str, AfterValidator(_variable)]


Backend = Literal["pyav", "dali-cpu", "dali-gpu"]
Precision = Literal["bf16", "float32", "fp8"]
Attention = Literal["cudnn", "flash", "fa3", "fa4"]
SquareAspect = Literal["stretch", "pad", "crop"]
ReasoningEffort = Literal["low", "medium", "high"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class VideoConfig(_Table):
    """How files are read.

    Attributes:
        decoder: "pyav" on the CPU; "dali-gpu" on an NVIDIA GPU; "dali-cpu" to try DALI without one.
        stride: every stride-th raw frame is sampled.
        min_coverage: minimum share of its frames that a file must yield; otherwise it fails.
        memory_limit_gib: memory limit of one decoding process, in GiB.
        stall_seconds: time without progress after which a decoder is killed.
    """

    decoder: Backend = "pyav"
    stride: int = Field(default=4, ge=1)
    min_coverage: float = Field(default=0.9, ge=0, le=1)
    memory_limit_gib: float = Field(default=4.0, gt=0, le=2**20)
    stall_seconds: float = Field(default=60.0, gt=1, le=10**6)


class VJepa2Config(_Table):
    """The V-JEPA 2 encoders.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag; run.toml records the commit that it resolved to.
        device: "cuda", "cuda:1" or "cpu".
        precision: precision of the matrix products; "fp8" works only with "vjepa2_torch".
        batch: windows per batch.
        attention: the attention kernel of "vjepa2_torch" on a GPU; "fa3" and "fa4" need the package
            flash-attn-3 or flash-attn-4.
    """

    model: _Place = "facebook/vjepa2-vitg-fpc64-384"
    revision: str | None = None
    device: str = "cuda"
    precision: Precision = "bf16"
    batch: int = Field(default=4, ge=1)
    attention: Attention = "cudnn"


class MetadataConfig(_Table):
    """Metadata and transcripts of videos.

    Attributes:
        languages: languages of transcripts, in order of preference; "en" includes en-US.
        table: a CSV, JSON Lines or Parquet file with a row per video; its fields override those of
            the sidecars.
    """

    languages: list[str] = Field(default=["en"], min_length=1)
    table: str | None = None


class SegmentationConfig(_Table):
    """Stage 1, up to the dendrogram.

    Attributes:
        encoder: the frame encoder; "descriptor" needs no model.
        keep_embeddings: whether to store the embeddings in the parts.
        vjepa2: settings of the V-JEPA 2 encoders.
    """

    encoder: Literal["descriptor", "vjepa2_torch", "vjepa2_tensorrt"] = "descriptor"
    keep_embeddings: bool = False
    vjepa2: VJepa2Config = VJepa2Config()


class CutConfig(_Table):
    """The cut of the dendrogram into the tree. Changing it does not repeat stage 1.

    Attributes:
        min_duration: minimum duration of a segment, in seconds; values below 0.5 violate the
            published format.
        absorb_above: seconds; longer leaves absorb short neighbours so that they can be split.
    """

    min_duration: float = Field(default=MIN_DURATION, ge=0.05)
    absorb_above: float = Field(default=ABSORB_ABOVE, gt=0, allow_inf_nan=True)


class TransformersConfig(_Table):
    """A model in this process, through transformers: any that the library supports, in batches.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag; run.toml records the commit that it resolved to.
        device: "cuda", "cuda:1" or "cpu".
        precision: precision of the weights.
        batch: requests per batch.
    """

    engine: Literal["transformers"]
    model: _Place
    revision: str | None = None
    device: str = "cuda"
    precision: Literal["bf16", "float32"] = "bf16"
    batch: int = Field(default=8, ge=1)


class VllmConfig(_Table):
    """A model on this machine, through vLLM: the fastest on GPUs, for the models that it supports.

    Attributes:
        model: a name on the Hugging Face hub, or a local folder.
        revision: a commit, branch or tag; run.toml records the commit that it resolved to.
        precision: precision of the weights; "auto" uses that of the checkpoint.
        tensor_parallel: number of GPUs that each copy of the model is spread over.
        data_parallel: number of copies of the model.
        memory_share: share of each GPU's memory to use.
        context_length: maximum tokens of prompt and answer; default: that of the model.
        sequences: concurrent requests per copy.
    """

    engine: Literal["vllm"]
    model: _Place
    revision: str | None = None
    precision: Literal["auto", "bf16", "float32"] = "auto"
    tensor_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    memory_share: float = Field(default=0.9, gt=0, le=1)
    context_length: int | None = Field(default=None, ge=1)
    sequences: int = Field(default=256, ge=1)


class OpenAIConfig(_Table):
    """Servers with OpenAI's chat completions API: vLLM, SGLang, llama.cpp, a provider.

    Attributes:
        model: name of the model on the servers.
        revision: recorded only: the revision that the server's owner says it runs.
        urls: addresses of the servers, each up to and including "/v1".
        key_variable: the environment variable that holds the key, if the servers need one.
        key_file: the file that holds the key, instead of `key_variable`.
        concurrency: concurrent requests per server.
        timeout_seconds: time without an answer after which a request is tried again.
        attempts: attempts at a request if servers fail; a busy server costs no attempt.
        tokenizer: hub name or local folder; stage 3 counts tokens with it.
        context_length: maximum tokens of prompt and answer; default: what the servers report.
    """

    engine: Literal["openai"]
    model: str
    revision: str | None = None
    urls: list[_Url] = Field(min_length=1)
    key_variable: _Variable | None = None
    key_file: _Place | None = None
    concurrency: int = Field(default=64, ge=1)
    timeout_seconds: float = Field(default=600.0, gt=0)
    attempts: int = Field(default=6, ge=1)
    tokenizer: _Place | None = None
    context_length: int | None = Field(default=None, ge=1)


EngineConfig = TransformersConfig | VllmConfig | OpenAIConfig
_ENGINES = ("transformers", "vllm", "openai")
_Engine = Annotated[EngineConfig, Field(discriminator="engine")]


class CaptionerConfig(_Table):
    """A captioning model and its prompt.

    Attributes:
        model: the model and the engine that runs it.
        prompt: prompt for a caption.
        max_tokens: maximum tokens per answer.
        temperature, seed: sampling parameters; temperature 0 takes the likeliest token.
    """

    model: _Engine
    prompt: str
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0


class SegmentCaptionerConfig(CaptionerConfig):
    """The video captioner, asked twice about every segment (paper, section 3.2).

    Attributes:
        prompt: prompt for the caption.
        action_prompt: prompt for the short action label.
    """

    prompt: str = "Describe this video in detail."
    action_prompt: str = (
        "Name the main action in this video in one short phrase that starts with a verb. "
        "Answer with the phrase alone."
    )


class LeafCaptionerConfig(CaptionerConfig):
    """The image captioner, asked about the middle frame of every leaf.

    Attributes:
        prompt: prompt for the caption.
    """

    prompt: str = "Describe this image in detail."


class CaptioningConfig(_Table):
    """Stage 2. Captions without a configured model stay null.

    Attributes:
        segments: captioner for captions and action labels of all segments.
        leaves: captioner for the leaves' middle frames.
        frames: maximum number of frames per segment, evenly spaced.
        side: side of the square frames, in pixels.
        aspect: how frames become square: "stretch" as the paper's model does itself, "pad" with
            black, or "crop" to the middle.
        attempts: attempts at a caption that fails or is empty, each with another seed.
        max_failed: share of a video's captions that may stay null before the video fails.
        memory_gib: memory for frames that wait or are in requests, over all videos; a 32-frame
            clip takes 10 MB at 320 pixels. Decoders wait while more is in use.
    """

    segments: SegmentCaptionerConfig | None = None
    leaves: LeafCaptionerConfig | None = None
    frames: int = Field(default=32, ge=1)
    side: int = Field(default=320, ge=16)
    aspect: SquareAspect = "stretch"
    attempts: int = Field(default=3, ge=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    memory_gib: float = Field(default=1.0, gt=0)


class AggregationConfig(_Table):
    """Stage 3. Structured actions stay null without a configured model.

    Attributes:
        model: the model and the engine that runs it; an OpenAI engine needs `tokenizer`.
        rounds: rounds of Self-Refine after the draft (the paper: 3).
        max_tokens: maximum tokens per answer, including reasoning.
        prompt_tokens: maximum tokens of a draft's prompt; longer trees are shortened to fit.
        temperature, seed: sampling parameters; temperature 0 takes the likeliest token.
        reasoning_effort: reasoning effort, for models that support it.
        attempts: attempts at an answer that fails or cannot be used; the model is shown the error.
        max_failed: share of a video's annotations that may stay null, or get no answer to a
            later round, before the video fails.
        keep_rounds: whether to keep every round's answer in the parts.
    """

    model: _Engine | None = None
    rounds: int = Field(default=3, ge=0)
    max_tokens: int = Field(default=4096, ge=1)
    prompt_tokens: int = Field(default=32768, ge=1024)
    temperature: float = Field(default=0.0, ge=0)
    seed: int = 0
    reasoning_effort: ReasoningEffort | None = None
    attempts: int = Field(default=3, ge=1)
    max_failed: float = Field(default=0.1, ge=0, le=1)
    keep_rounds: bool = False


class ExportConfig(_Table):
    """The Parquet shards.

    Attributes:
        rows_per_shard: videos per file.
    """

    rows_per_shard: int = Field(default=512, ge=1)


class Config(_Table):
    """Everything that decides what a run computes. The number of workers is not part of it.

    Attributes:
        video: how files are read.
        metadata: metadata and transcripts.
        segmentation: stage 1, up to the dendrogram.
        cut: the cut of the dendrogram into the tree.
        captioning: stage 2.
        aggregation: stage 3.
        export: the Parquet shards.
    """

    video: VideoConfig = VideoConfig()
    metadata: MetadataConfig = MetadataConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    cut: CutConfig = CutConfig()
    captioning: CaptioningConfig = CaptioningConfig()
    aggregation: AggregationConfig = AggregationConfig()
    export: ExportConfig = ExportConfig()


def with_rounds(config: Config) -> Config:
    """Return the configuration with every round of stage 3 kept."""
    aggregation = config.aggregation.model_copy(update={"keep_rounds": True})
    return config.model_copy(update={"aggregation": aggregation})


def with_table(config: Config, table: Path) -> Config:
    """Return the configuration with metadata from a table.

    Raises:
        UsageError: its path is not valid UTF-8.
    """
    table = table.absolute()
    require_utf8(table)
    metadata = config.metadata.model_copy(update={"table": str(table)})
    return config.model_copy(update={"metadata": metadata})


def parse_config(
    values: dict[str, Any], source: Path | str, bases: tuple[Path, ...] = ()
) -> Config:
    """Check settings that were read from `source`.

    Args:
        values: the settings.
        source: names the settings in errors.
        bases: folders from which local models, tokenizers and key files are looked up; those that
            exist become absolute.

    Raises:
        ConfigError: a setting is wrong or unknown; the message names every such setting.
    """
    try:
        return Config.model_validate(values, context=bases)
    except ValidationError as error:
        complaints = "; ".join(map(_complaint, error.errors()))
        # Not `from error`, which would show all values.
        raise ConfigError(f"{source}: {complaints}.") from None


def changes(before: Config, after: Config) -> list[str]:
    """Return the settings that differ, each with both values."""
    old, new = (dict(_flat(config.model_dump(mode="json"))) for config in (before, after))
    return [
        f"{name}: {_shown(old.get(name))} before, {_shown(new.get(name))} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _shown(value: Any) -> Any:
    return "not set" if value is None else value


def _flat(values: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield place + name, value


_REASONS = {"extra_forbidden": "there is no such setting", "missing": "is missing"}


def _complaint(error: ErrorDetails) -> str:
    places = [str(place) for place in error["loc"]]
    names = [  # without the engine, which pydantic adds to the path
        name
        for name, before in zip(places, ["", *places], strict=False)
        if before != "model" or name not in _ENGINES
    ]
    setting = ".".join(names) or "the settings"
    if reason := _REASONS.get(error["type"]):
        return f"{setting}: {reason}"
    if error["type"] == "union_tag_not_found":
        return f"{setting}.engine: is missing; it must be one of {', '.join(_ENGINES)}"
    if error["type"] == "union_tag_invalid":
        given = error["ctx"]["tag"]
        return f"{setting}.engine: must be one of {', '.join(_ENGINES)}, not {given!r}"
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"{setting}: must be a table of settings, not {error['input']!r}"
    if error["type"] == "value_error":  # a check of ours, which says what is wrong
        return f"{setting}: {error['ctx']['error']}"
    # An address may contain a password.
    given = "" if "urls" in names else f", not {error['input']!r}"
    return f"{setting}: {error['msg']}{given}"


def fingerprint(values: Mapping[str, Any], digits: int = 16) -> str:
    """Return hex digits that change whenever one of the (JSON) values changes."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
