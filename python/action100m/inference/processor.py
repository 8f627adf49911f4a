"""Opens what stands before a checkpoint's model: its tokenizer, its processor, its template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from action100m.checkpoint import CheckpointError, Found
from action100m.inference.template import ChatTemplate

SAFE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""How everything is loaded: no code of the checkpoint's own runs, nothing comes by network."""


@dataclass(frozen=True)
class Processor:
    """From a conversation to what a model reads.

    Attributes:
        sees: whether the model is one that takes pictures.
        tokenizer: of its text.
        processor: makes tensors of text and pictures; the tokenizer, if the model reads text alone.
        template: of its conversations.
    """

    sees: bool
    tokenizer: Any
    processor: Any
    template: ChatTemplate


def open_processor(found: Found) -> Processor:
    """Load all of a checkpoint but its weights.

    Raises:
        CheckpointError: it is not a chat model's.
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


def not_loaded(found: Found, error: Exception) -> CheckpointError:
    """What transformers says of a checkpoint, as our error."""
    reason = str(error).split("\n", 1)[0]
    return CheckpointError(f"{found.source} cannot be loaded as a chat model: {reason}")
