"""Load what prepares the input of a checkpoint's model: tokenizer, processor and template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from action100m.checkpoint import Checkpoint, CheckpointError
from action100m.inference.template import ChatTemplate
from action100m.text import first_line

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Arguments for loading: no code from the checkpoint is run, and nothing is downloaded."""


@dataclass(frozen=True)
class Processor:
    """What converts a conversation to the input of a model.

    Attributes:
        sees: whether the model accepts pictures.
        tokenizer: tokenizer of the model.
        processor: turns text and pictures into tensors; the tokenizer if the model reads only text.
        template: chat template of the model.
    """

    sees: bool
    tokenizer: Any
    processor: Any
    template: ChatTemplate


def open_processor(found: Checkpoint) -> Processor:
    """Load everything of a checkpoint except its weights.

    Raises:
        CheckpointError: it is not the checkpoint of a chat model.
        ImportError: its processor needs a package that is not installed.
    """
    try:
        kind = AutoConfig.from_pretrained(found.folder, **SAFE).model_type
        sees = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        opener = AutoProcessor if sees else AutoTokenizer
        processor = opener.from_pretrained(found.folder, **SAFE)
        template = ChatTemplate(processor, sees=sees)
    except (OSError, KeyError, ValueError) as error:
        raise not_loaded(found, error) from error
    return Processor(sees, processor.tokenizer if sees else processor, processor, template)


def not_loaded(found: Checkpoint, error: Exception) -> CheckpointError:
    """Return an error of the transformers library as a CheckpointError."""
    reason = first_line(error)
    return CheckpointError(f"{found.source} cannot be loaded as a chat model: {reason}")
