"""Convert a request to the tensors that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from action100m.inference.engine import Request
from action100m.inference.template import metadata_of, opening_of
from action100m.inference.transformers.loading import Loaded


@dataclass(frozen=True, eq=False)
class Prompt:
    """Model input of one request.

    Attributes:
        tensors: tensors by the model's own names, a batch of one.
        opening: beginning of the answer that the prompt contains.
        room: maximum number of new tokens.
    """

    tensors: dict[str, torch.Tensor]
    opening: str
    room: int

    @property
    def length(self) -> int:
        """Number of its tokens, including those of pictures."""
        return int(self.tensors["input_ids"].shape[1])

    def runs_along(self, name: str) -> bool:
        """Return whether a tensor has an entry for every token, and not for pictures."""
        return tuple(self.tensors[name].shape[:2]) == (1, self.length)

    @property
    def shapes(self) -> tuple[object, ...]:
        """Equal for prompts whose tensors can be batched once padded to the same length."""
        return tuple(
            (name, tensor.shape[2:] if self.runs_along(name) else tensor.shape)
            for name, tensor in sorted(self.tensors.items())
        )


def read(loaded: Loaded, request: Request) -> Prompt:
    """Render the conversation with the model's template, and prepare its pictures.

    Raises:
        ValueError: the model does not accept the pictures, or the prompt is too long for it.
    """
    text = loaded.template.prompt(request)
    tensors = _tensors(loaded, request, text)
    length = int(tensors["input_ids"].shape[1])
    room = request.sampling.max_tokens
    if loaded.context_length is not None:
        room = min(room, loaded.context_length - length)
    if room < 1:
        raise ValueError(
            f"The prompt has {length} tokens and leaves no room for an answer in the context of "
            f"{loaded.name} ({loaded.context_length} tokens)."
        )
    return Prompt(tensors, opening_of(text), room)


def _tensors(loaded: Loaded, request: Request, text: str) -> dict[str, torch.Tensor]:
    arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if images := loaded.template.images(request):
        arguments["images"] = [images]
    if clips := loaded.template.clips(request):
        arguments["videos"] = [[loaded.template.frames(clip) for clip in clips]]
        arguments["video_metadata"] = [metadata_of(clip) for clip in clips]
        arguments["do_sample_frames"] = False
    reads_text_alone = loaded.processor is loaded.tokenizer
    begin = loaded.tokenizer.bos_token
    if reads_text_alone or (begin and text.startswith(begin)):  # as the library's own templates do
        arguments["add_special_tokens"] = False
    made = loaded.processor(**arguments)
    if reads_text_alone:
        made.pop("token_type_ids", None)  # which no text model takes
    return {
        # Others, such as seconds per frame, give positions, which rounding would move.
        name: tensor.to(loaded.model.dtype) if name.startswith("pixel_values") else tensor
        for name, tensor in made.items()
        if isinstance(tensor, torch.Tensor)
    }
