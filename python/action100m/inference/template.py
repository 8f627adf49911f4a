"""Conversations in a model's own words: its chat template, and its pictures beside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import PIL.Image

from action100m.inference.engine import Clip, Image, Message, Part, Request, Text
from action100m.inference.reasoning import HARMONY, THOUGHT, THOUGHT_ENDS

_HARMONY_FINAL = f"{HARMONY}final<|message|>"
_ROLES = ("system", "user", "assistant")
_PROBE = "Xylophone."


class RequestError(ValueError):
    """A request that this model cannot take, with the reason."""


class ChatTemplate:
    """Renders requests for a checkpoint of the transformers library.

    Attributes:
        harmony: whether the model answers in OpenAI's Harmony channels.
        thinks: whether the model may think between "<think>" and "</think>" before it answers.
        takes_clips: whether the model knows clips; else it sees their frames as pictures.
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
        self.harmony = HARMONY in tokenizer.get_vocab()
        self.thinks = THOUGHT_ENDS in self._template or THOUGHT in self._template
        self.takes_clips = getattr(processor, "video_processor", None) is not None
        self._control = _control_tokens(processor, tokenizer)
        self._plain = {role for role in _ROLES if not self._takes_parts(role)}

    def prompt(self, request: Request, *, thought_over: bool = False) -> str:
        """The conversation up to where the model speaks, placeholders for what it sees.

        Control tokens in a request's text are broken up, so that they are words to the model.

        Args:
            request: the conversation.
            thought_over: leave the model nothing to write but the answer.

        Raises:
            RequestError: the model takes no pictures, and there are some.
        """
        options: dict[str, Any] = {}
        if request.sampling.reasoning_effort is not None and "reasoning_effort" in self._template:
            options["reasoning_effort"] = request.sampling.reasoning_effort
        if thought_over and "enable_thinking" in self._template:
            options["enable_thinking"] = False
        prompt = self._render([self._turn(message) for message in request.messages], **options)
        if not thought_over:
            return prompt
        if self.harmony:
            return prompt + _HARMONY_FINAL
        if prompt.rstrip().endswith(THOUGHT):
            return f"{prompt.rstrip()}\n\n{THOUGHT_ENDS}\n\n"
        return prompt

    def images(self, request: Request) -> list[PIL.Image.Image]:
        """The pictures of a request, the frames of its clips among them if it knows no clips."""
        images: list[PIL.Image.Image] = []
        for part in parts_of(request):
            if isinstance(part, Image):
                images.append(PIL.Image.fromarray(part.pixels))
            elif isinstance(part, Clip) and not self.takes_clips:
                images.extend(map(PIL.Image.fromarray, part.frames))
        return images

    def clips(self, request: Request) -> list[Clip]:
        """The clips of a request, if the model knows clips."""
        return [part for part in parts_of(request) if isinstance(part, Clip) and self.takes_clips]

    def _render(self, turns: Sequence[dict[str, Any]], **options: Any) -> str:
        return str(
            self._processor.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=True, **options
            )
        )

    def _takes_parts(self, role: str) -> bool:
        """Whether the template reads a list of parts, and not a text alone, from who has the role.

        Templates differ in this and say nothing of it: Llama-3.2-Vision's prints a system
        message's list as Python does, SmolVLM's drops a text.
        """
        if not self._sees:
            return False
        roles = {
            "system": ("system", "user"),
            "user": ("user",),
            "assistant": ("user", "assistant"),
        }
        parts = [{"type": "text", "text": _PROBE}]
        try:
            shown = self._render([{"role": each, "content": parts} for each in roles])
        except Exception:  # a role that the template refuses; a request will tell
            return True
        return shown.count(_PROBE) == len(roles) and "{'type'" not in shown

    def _turn(self, message: Message) -> dict[str, Any]:
        items = [item for part in message.parts for item in self._items(part)]
        if message.role in self._plain and all(item["type"] == "text" for item in items):
            return {"role": message.role, "content": "".join(item["text"] for item in items)}
        return {"role": message.role, "content": items}

    def _items(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return [{"type": "text", "text": self._control.sub(_broken, part.text)}]
        if not self._sees:
            raise RequestError("The model reads text alone: it takes no pictures.")
        if isinstance(part, Clip) and self.takes_clips:
            return [{"type": "video"}]
        return [{"type": "image"}] * (len(part.frames) if isinstance(part, Clip) else 1)


def opening_of(prompt: str) -> str:
    """What a prompt already says of the answer: its text goes before the model's own."""
    if prompt.endswith(_HARMONY_FINAL):
        return _HARMONY_FINAL
    return THOUGHT if prompt.rstrip().endswith(THOUGHT) else ""


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


def _control_tokens(processor: Any, tokenizer: Any) -> re.Pattern[str]:
    """What in a text would be more than words: the end of a turn, the place of a picture."""
    tokens = set(tokenizer.all_special_tokens)
    tokens |= {each.content for each in tokenizer.added_tokens_decoder.values() if each.special}
    media = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video"))
    tokens |= {token for token in media if token}
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")


def _broken(control: re.Match[str]) -> str:
    """A control token as harmless words that look alike."""
    token = control[0]
    return f"{token[0]} {token[1:]}"
