"""From a request to the tensors that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from action100m.inference.engine import Clip, Request
from action100m.inference.template import metadata_of, opening_of
from action100m.inference.transformers.loading import Loaded


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a model reads of one request.

    Attributes:
        tensors: by the model's own names, a batch of one.
        opening: what the prompt already says of the answer.
        room: new tokens at most.
    """

    tensors: dict[str, torch.Tensor]
    opening: str
    room: int

    @property
    def length(self) -> int:
        """Its tokens, those of pictures among them."""
        return int(self.tensors["input_ids"].shape[1])

    def runs_along(self, name: str) -> bool:
        """Whether a tensor has an entry for every token, and not for pictures."""
        return tuple(self.tensors[name].shape[:2]) == (1, self.length)

    @property
    def shapes(self) -> tuple[object, ...]:
        """Equal for prompts whose tensors, padded to one length, can be put together."""
        return tuple(
            (name, tensor.shape[2:] if self.runs_along(name) else tensor.shape)
            for name, tensor in sorted(self.tensors.items())
        )


def read(loaded: Loaded, request: Request) -> Prompt:
    """Write the conversation by the model's template, and prepare what is shown.

    Raises:
        ValueError: the model cannot be shown this, or the prompt is too long for it.
    """
    text = loaded.template.prompt(request)
    tensors = _tensors(loaded, request, text)
    length = int(tensors["input_ids"].shape[1])
    room = request.sampling.max_tokens
    if loaded.context_length is not None:
        room = min(room, loaded.context_length - length)
    if room < 1:
        raise ValueError(
            f"The prompt has {length} tokens, and {loaded.name} reads and writes "
            f"{loaded.context_length} together."
        )
    return Prompt(tensors, opening_of(text), room)


def _tensors(loaded: Loaded, request: Request, text: str) -> dict[str, torch.Tensor]:
    arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt"}
    if images := loaded.template.images(request):
        arguments["images"] = [images]
    if clips := loaded.template.clips(request):
        arguments["videos"] = [[np.stack(_frames(loaded, clip)) for clip in clips]]
        arguments["video_metadata"] = [metadata_of(clip) for clip in clips]
        arguments["do_sample_frames"] = False
    reads_text_alone = loaded.processor is loaded.tokenizer
    begin = loaded.tokenizer.bos_token
    if reads_text_alone or (begin and text.startswith(begin)):  # as the library's own templates do
        arguments["add_special_tokens"] = False
    made = loaded.processor(**arguments)
    if reads_text_alone:
        made.pop("token_type_ids", None)  # which no such model takes
    return {
        name: tensor.to(loaded.model.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in made.items()
        if isinstance(tensor, torch.Tensor)
    }


def _frames(loaded: Loaded, clip: Clip) -> list[NDArray[np.uint8]]:
    """At least as many as the model merges into one, as its processor pads longer clips."""
    least = getattr(loaded.processor.video_processor, "temporal_patch_size", 1)
    return [*clip.frames, *[clip.frames[-1]] * (least - len(clip.frames))]
