"""Loads a checkpoint: the model, its tokenizer, and what prepares pictures for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from action100m.checkpoint import CheckpointError, find_checkpoint
from action100m.config import TransformersConfig
from action100m.device import find_device
from action100m.inference.template import ChatTemplate

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Loaded:
    """A model that is ready, and what belongs to it.

    Attributes:
        name: as the configuration has it.
        model: transformers' own, on its device.
        tokenizer: of its text.
        processor: makes tensors of text and pictures; the tokenizer, if the model reads text alone.
        template: of its conversations.
        ends: the tokens that end an answer.
        padding: the token that stands before a prompt shorter than the others.
        context_length: tokens of prompt and answer together; None where the checkpoint is silent.
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
    """Load a checkpoint, from safetensors only and without code of its own.

    Raises:
        ValueError: the device is not here.
        CheckpointError: the checkpoint cannot be found or used.
        ImportError: its processor needs a package that is not installed.
    """
    device = find_device(config.device)
    folder = find_checkpoint(config.model, config.revision).folder
    safe = {"trust_remote_code": False, "local_files_only": True}
    disable_progress_bar()  # ours is enough
    try:
        kind = transformers.AutoConfig.from_pretrained(folder, **safe).model_type
        sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        opener = transformers.AutoProcessor if sees else transformers.AutoTokenizer
        loader = (
            transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        )
        processor = opener.from_pretrained(folder, **safe)
        template = ChatTemplate(processor, sees=sees)
        model, report = loader.from_pretrained(
            folder,
            dtype=_DTYPES[config.precision],
            use_safetensors=True,
            output_loading_info=True,
            **safe,
        )
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        reason = str(error).split("\n", 1)[0]
        raise CheckpointError(
            f"{config.model} cannot be loaded as a chat model: {reason}"
        ) from error
    if report["missing_keys"]:  # they would be random
        missing = sorted(report["missing_keys"])
        raise CheckpointError(f"{config.model} lacks {len(missing)} weights, {missing[0]} first.")
    tokenizer = processor.tokenizer if sees else processor
    ends = _ends(model, tokenizer)
    if not ends:
        raise CheckpointError(f"{config.model} does not tell which token ends an answer.")
    padding = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    # The published habits of sampling (top-p and the like) are not part of a request.
    model.generation_config = transformers.GenerationConfig(
        do_sample=False, eos_token_id=list(ends), pad_token_id=padding
    )
    return Loaded(
        name=config.model,
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        processor=processor,
        template=template,
        ends=ends,
        padding=padding,
        context_length=getattr(model.config.get_text_config(), "max_position_embeddings", None),
    )


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    named = model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return tuple(sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None}))
