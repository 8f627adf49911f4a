"""A chat model of the transformers library: conversations in, answers out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import PIL.Image
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LogitsProcessorList,
    StoppingCriteriaList,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from action100m.checkpoint import Found
from action100m.inference.engine import Clip, Request, Result, Text, Usage, outcome_of
from action100m.inference.reasoning import answer_in
from action100m.inference.template import ChatTemplate, RequestError, metadata_of, parts_of
from action100m.inference.transformers.decoding import Drawn, Ended, Following

_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


class OutOfMemoryError(RuntimeError):
    """The device's memory is too small for a batch."""


class ChatModel:
    """A model on a device; used by one thread."""

    def __init__(self, found: Found, device: str, precision: str) -> None:
        """Load it.

        Raises:
            ValueError: the checkpoint is no chat model, or the device is not there.
            ImportError: its processor needs a package that is not installed.
        """
        self._device = _find_device(device)
        disable_progress_bar()  # ours is enough
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        folder = str(found.folder)
        try:
            config = AutoConfig.from_pretrained(folder, **options)
            self._sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
            loader = AutoModelForImageTextToText if self._sees else AutoModelForCausalLM
            opener = AutoProcessor if self._sees else AutoTokenizer
            self._processor = opener.from_pretrained(folder, **options)
            self._template = ChatTemplate(self._processor, sees=self._sees)
            self._model = loader.from_pretrained(
                folder, dtype=_DTYPES[precision], use_safetensors=True, **options
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).split("\n", 1)[0]
            raise ValueError(
                f"{found.source} cannot be loaded as a chat model: {reason}"
            ) from error
        self._model.to(self._device).eval()
        self._tokenizer = self._processor.tokenizer if self._sees else self._processor
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        text_config = config.get_text_config()
        self.context_length: int | None = getattr(text_config, "max_position_embeddings", None)
        self._ends = _end_tokens(self._model, self._tokenizer)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, without special ones."""
        encoded = self._tokenizer(list(texts), add_special_tokens=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def words(self, request: Request) -> str:
        """All text of a request."""
        return "\n".join(part.text for part in parts_of(request) if isinstance(part, Text))

    def kind(self, request: Request) -> Hashable:
        """What requests of one batch have in common."""
        shown = tuple(
            (type(part).__name__, len(part.frames), part.frames[0].shape)
            if isinstance(part, Clip)
            else (type(part).__name__, 1, part.pixels.shape)
            for part in parts_of(request)
            if not isinstance(part, Text)
        )
        return shown, request.sampling.max_tokens, request.schema is not None

    @torch.inference_mode()
    def generate(self, requests: list[Request], given_up: Callable[[int], bool]) -> list[Result]:
        """Answer requests of one kind.

        Args:
            requests: a batch.
            given_up: whether nobody waits any more for the answer to the request of that number.

        Raises:
            RequestError: one of them cannot be taken.
            OutOfMemoryError: they are too many, or too long, for the device.
        """
        try:
            inputs = self._inputs(requests)
            length = inputs["input_ids"].shape[1]
            new = requests[0].sampling.max_tokens
            if self.context_length is not None and length + new > self.context_length:
                raise RequestError(
                    f"Its {length} tokens and the {new} of an answer do not fit the model's "
                    f"context of {self.context_length}."
                )
            output = self._model.generate(
                **inputs,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=new,
                pad_token_id=self._tokenizer.pad_token_id,
                eos_token_id=sorted(self._ends),
                logits_processor=self._constraints(requests, length),
                stopping_criteria=StoppingCriteriaList([Ended(given_up)]),
            )
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from None
        asked = inputs["attention_mask"].sum(1).tolist()
        answers = output[:, length:].tolist()
        return list(map(self._result, requests, asked, answers))

    def _constraints(self, requests: list[Request], length: int) -> LogitsProcessorList:
        constraints = LogitsProcessorList()
        if requests[0].schema is not None:
            schemas = [request.schema for request in requests]
            constraints.append(Following(self._tokenizer, schemas, length, self._ends))
        if any(request.sampling.temperature > 0 for request in requests):
            constraints.append(Drawn([request.sampling for request in requests]))
        return constraints

    def _result(self, request: Request, prompt: int, tokens: list[int]) -> Result:
        end = next((k for k, token in enumerate(tokens) if token in self._ends), None)
        said = tokens if end is None else tokens[:end]
        raw = self._tokenizer.decode(said, skip_special_tokens=not self._template.harmony)
        text = answer_in(raw)
        outcome, reason = outcome_of(text, cut_off=end is None)
        usage = Usage(prompt=prompt, completion=len(said) + (end is not None))
        return Result(request.id, outcome, text, reason, usage)

    def _inputs(self, requests: list[Request]) -> Any:
        texts = [self._template.prompt(request) for request in requests]
        if not self._sees:
            inputs = self._tokenizer(
                texts, return_tensors="pt", padding=True, add_special_tokens=False
            )
            inputs.pop("token_type_ids", None)
            return inputs.to(self._device)
        images = [self._template.images(request) for request in requests]
        clips = [clip for request in requests for clip in self._template.clips(request)]
        options: dict[str, Any] = {}
        if any(images):
            options["images"] = images
        if clips:
            options["videos"] = [list(map(PIL.Image.fromarray, clip.frames)) for clip in clips]
            options["video_metadata"] = [metadata_of(clip) for clip in clips]
            options["do_sample_frames"] = False
        inputs = self._processor(
            text=texts, return_tensors="pt", padding=True, add_special_tokens=False, **options
        )
        return inputs.to(self._device, self._model.dtype)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    told = model.generation_config.eos_token_id
    ends = told if isinstance(told, list) else [told]
    return frozenset(end for end in [*ends, tokenizer.eos_token_id] if end is not None)


def _find_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no device: take 'cuda', 'cuda:1' or 'cpu'.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ValueError(
                f"There is no device {name!r}: PyTorch {torch.__version__} finds {count} CUDA "
                "devices here. Check the driver, or ask for 'cpu'."
            )
    return device
