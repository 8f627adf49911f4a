"""Render conversations with a model's chat template, and collect their pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from jinja2 import TemplateError
from numpy.typing import NDArray

from action100m.inference.engine import Clip, Image, Message, Part, Request, Text
from action100m.inference.reasoning import HARMONY, THOUGHT, THOUGHT_ENDS

_HARMONY_FINAL = f"{HARMONY}final<|message|>"
_ROLES = ("system", "user", "assistant")
_PROBE = "Xylophone."


class RequestError(ValueError):
    """The model cannot take a request; the message says why."""


class ChatTemplate:
    """Renders requests for a checkpoint of the transformers library.

    Attributes:
        harmony: whether the model answers in OpenAI's Harmony channels.
        thinks: whether the model may think between "<think>" and "</think>" before it answers.
        takes_clips: whether the model accepts clips; else it sees their frames as pictures.
    """

    def __init__(self, processor: Any, *, sees: bool) -> None:
        """Determine what the model accepts.

        Args:
            processor: a tokenizer, or a processor that has one.
            sees: whether the model accepts pictures.

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
        """Return the conversation up to the model's turn, with placeholders for what it sees.

        Control tokens in a request's text are broken up, so that the model reads them as text.

        Args:
            request: the conversation.
            thought_over: skip the reasoning, so that the model writes only the answer.

        Raises:
            RequestError: the request has pictures, which the model does not accept, or the template
                refuses the conversation.
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
        """Return the pictures of a request, with the frames of clips if the model accepts none."""
        images: list[PIL.Image.Image] = []
        for part in parts_of(request):
            if isinstance(part, Image):
                images.append(PIL.Image.fromarray(part.pixels))
            elif isinstance(part, Clip) and not self.takes_clips:
                images.extend(map(PIL.Image.fromarray, part.frames))
        return images

    def clips(self, request: Request) -> list[Clip]:
        """Return the clips of a request; none if the model does not accept clips."""
        return [part for part in parts_of(request) if isinstance(part, Clip) and self.takes_clips]

    def frames(self, clip: Clip) -> NDArray[np.uint8]:
        """Return the frames of a clip: (k, h, w, 3).

        The last one is repeated up to the number that the model merges into one, with fewer of
        which its processor raises.
        """
        least = getattr(self._processor.video_processor, "temporal_patch_size", 1)
        return np.stack([*clip.frames, *[clip.frames[-1]] * (least - len(clip.frames))])

    def _render(self, turns: Sequence[dict[str, Any]], **options: Any) -> str:
        try:
            return str(
                self._processor.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=True, **options
                )
            )
        except (TemplateError, TypeError) as error:  # TypeError: text joined to a list of parts
            reason = str(error).rstrip(".")
            raise RequestError(f"The chat template refuses the conversation: {reason}.") from error

    def _takes_parts(self, role: str) -> bool:
        """Return whether the template reads a list of parts, not only a text, from this role.

        Templates differ in this without declaring it: Llama-3.2-Vision's prints the list of a
        system message as Python does, SmolVLM's drops a plain text.
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
        except Exception:  # the template rejects a role; a request will report it
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
            raise RequestError("The model reads only text and does not accept pictures.")
        if isinstance(part, Clip) and self.takes_clips:
            return [{"type": "video"}]
        return [{"type": "image"}] * (len(part.frames) if isinstance(part, Clip) else 1)


def opening_of(prompt: str) -> str:
    """Return the beginning of the answer that a prompt contains; the model's text follows it."""
    if prompt.endswith(_HARMONY_FINAL):
        return _HARMONY_FINAL
    return THOUGHT if prompt.rstrip().endswith(THOUGHT) else ""


def parts_of(request: Request) -> list[Part]:
    """Return all parts of a conversation."""
    return [part for message in request.messages for part in message.parts]


def metadata_of(clip: Clip) -> dict[str, Any]:
    """Return the frame numbers and times of a clip as video processors expect them."""
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
    """Return a pattern for what is more than text, such as the end of a turn or a picture."""
    tokens = set(tokenizer.all_special_tokens)
    tokens |= {each.content for each in tokenizer.added_tokens_decoder.values() if each.special}
    media = (getattr(processor, f"{kind}_token", None) for kind in ("image", "video"))
    tokens |= {token for token in media if token}
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")


def _broken(control: re.Match[str]) -> str:
    """Return a control token as harmless text that looks similar."""
    token = control[0]
    return f"{token[0]} {token[1:]}"
