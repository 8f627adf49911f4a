"""Conversations in a model's own words: its chat template, and its pictures beside."""

from __future__ import annotations

from typing import Any

import PIL.Image

from action100m.inference.engine import Clip, Image, Part, Request, Text

_HARMONY = "<|channel|>"
_HARMONY_FINAL = "<|channel|>final<|message|>"


class RequestError(ValueError):
    """A request that this model cannot take, with the reason."""


class ChatTemplate:
    """Renders requests for a checkpoint of the transformers library.

    Attributes:
        harmony: whether the model answers in OpenAI's Harmony channels.
        films: whether the model knows clips; else it sees their frames as pictures.
    """

    def __init__(self, processor: Any, *, sees: bool) -> None:
        """Look what the model takes.

        Args:
            processor: a tokenizer, or a processor that has one.
            sees: whether the model takes pictures.

        Raises:
            ValueError: there is no chat template.
        """
        self._processor = processor
        self._sees = sees
        self._template = str(getattr(processor, "chat_template", None) or "")
        if not self._template:
            raise ValueError("it has no chat template")
        tokenizer = processor.tokenizer if sees else processor
        self.harmony = _HARMONY in tokenizer.get_vocab()
        self.films = getattr(processor, "video_processor", None) is not None

    def prompt(self, request: Request) -> str:
        """The conversation up to where the model speaks, placeholders for what it sees.

        An answer with a schema is not thought about first: it is all that the grammar allows.

        Raises:
            RequestError: the model takes no pictures, and there are some.
        """
        turns = []
        for message in request.messages:
            items = [item for part in message.parts for item in self._items(part)]
            content: Any = items if self._sees else "".join(item["text"] for item in items)
            turns.append({"role": message.role, "content": content})
        options: dict[str, Any] = {}
        if request.sampling.reasoning_effort is not None and "reasoning_effort" in self._template:
            options["reasoning_effort"] = request.sampling.reasoning_effort
        if request.schema is not None and "enable_thinking" in self._template:
            options["enable_thinking"] = False
        prompt: str = self._processor.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, **options
        )
        return prompt + (_HARMONY_FINAL if self.harmony and request.schema is not None else "")

    def images(self, request: Request) -> list[PIL.Image.Image]:
        """The pictures of a request, the frames of its clips among them if it knows no clips."""
        images: list[PIL.Image.Image] = []
        for part in parts_of(request):
            if isinstance(part, Image):
                images.append(PIL.Image.fromarray(part.pixels))
            elif isinstance(part, Clip) and not self.films:
                images.extend(map(PIL.Image.fromarray, part.frames))
        return images

    def clips(self, request: Request) -> list[Clip]:
        """The clips of a request, if the model knows clips."""
        return [part for part in parts_of(request) if isinstance(part, Clip) and self.films]

    def _items(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return [{"type": "text", "text": part.text}]
        if not self._sees:
            raise RequestError("The model reads text alone: it takes no pictures.")
        if isinstance(part, Clip) and self.films:
            return [{"type": "video"}]
        return [{"type": "image"}] * (len(part.frames) if isinstance(part, Clip) else 1)


def parts_of(request: Request) -> list[Part]:
    """All parts of a conversation."""
    return [part for message in request.messages for part in message.parts]


def metadata_of(clip: Clip) -> dict[str, Any]:
    """Frames and seconds as video processors want to know them."""
    count = len(clip.frames)
    length = clip.times[-1] - clip.times[0]
    rate = (count - 1) / length if length > 0 else 1.0
    return {
        "total_num_frames": count,
        "fps": rate,
        "duration": count / rate,
        "frames_indices": list(range(count)),
    }
