"""Load a checkpoint: the model, its tokenizer and its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from action100m.checkpoint import Checkpoint, CheckpointError, find_checkpoint
from action100m.config import TransformersConfig
from action100m.device import find_device
from action100m.inference.processor import SAFE, not_loaded, open_processor
from action100m.inference.template import ChatTemplate

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Loaded:
    """A loaded model and what belongs to it.

    Attributes:
        name: name of the model in the configuration.
        model: model of the transformers library, on its device.
        tokenizer: tokenizer of the model.
        processor: turns text and pictures into tensors; the tokenizer if the model reads only text.
        template: chat template of the model.
        ends: the tokens that end an answer.
        padding: the token that pads shorter prompts on the left.
        context_length: maximum tokens of prompt and answer together; None if the checkpoint does
            not say.
    """

    name: str
    model: Any
    tokenizer: Any
    processor: Any
    template: ChatTemplate
    ends: tuple[int, ...]
    padding: int
    context_length: int | None


def load(config: TransformersConfig) -> Loaded:
    """Load a checkpoint, from safetensors only and without running code from it.

    Raises:
        ValueError: the device is not available.
        CheckpointError: the checkpoint cannot be found or used.
        ImportError: its processor needs a package that is not installed.
    """
    device = find_device(config.device)
    found = find_checkpoint(config.model, config.revision)
    inputs = open_processor(found)
    model = _load_model(found, sees=inputs.sees, dtype=_DTYPES[config.precision])
    ends = _ends(model, inputs.tokenizer)
    if not ends:
        raise CheckpointError(f"{config.model} does not say which token ends an answer.")
    named = inputs.tokenizer.pad_token_id
    padding = ends[0] if named is None else named
    # The checkpoint's sampling defaults (top-p and the like) are not part of a request.
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=list(ends), pad_token_id=padding
    )
    return Loaded(
        name=config.model,
        model=model.to(device).eval(),
        tokenizer=inputs.tokenizer,
        processor=inputs.processor,
        template=inputs.template,
        ends=ends,
        padding=padding,
        context_length=getattr(model.config.get_text_config(), "max_position_embeddings", None),
    )


def _load_model(found: Checkpoint, *, sees: bool, dtype: torch.dtype) -> Any:
    disable_progress_bar()  # our own is enough
    loader = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            found.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **SAFE
        )
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise not_loaded(found, error) from error
    if report["missing_keys"]:  # they would be initialized randomly
        missing = sorted(report["missing_keys"])
        raise CheckpointError(f"{found.source} lacks {len(missing)} weights, such as {missing[0]}.")
    return model


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return tuple(sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None}))
