"""The questions of stage 2 about a tree: which model, which frames, which segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from action100m.captioning.frames import choose_frames
from action100m.config import CaptionerConfig, CaptioningConfig
from action100m.inference import Clip, Image, Message, Part, Request, Sampling, Text
from action100m.inference.answers import question_key
from action100m.tree import Tree

Captioner = Literal["segments", "leaves"]

FIELDS: Mapping[str, Captioner] = {
    "plm_caption": "segments",
    "plm_action": "segments",
    "llama3_caption": "leaves",
}
"""The published fields that stage 2 fills, and the captioner that answers each."""


@dataclass(frozen=True, eq=False)
class Question:
    """A question for one field of one segment.

    Attributes:
        field: published name of the field.
        node: the segment's row in the tree.
        frames: numbers of the sampled frames to show, increasing.
        prompt: what to ask.
        key: hash of everything that determines the answer.
    """

    field: str
    node: int
    frames: NDArray[np.int64]
    prompt: str
    key: str

    @property
    def captioner(self) -> Captioner:
        """Captioner that answers."""
        return FIELDS[self.field]

    def request(self, shown: Part, config: CaptionerConfig, group: str) -> Request:
        """Return the request to a model: first the pictures, which two questions share."""
        sampling = Sampling(config.max_tokens, config.temperature, config.seed)
        message = Message("user", (shown, Text(self.prompt)))
        return Request(self.key, (message,), sampling, group=group)


def ask_about(
    tree: Tree,
    times: NDArray[np.float64],
    config: CaptioningConfig,
    identity: Mapping[Captioner, Mapping[str, Any]],
) -> list[Question]:
    """Return all questions about one video, sorted by node.

    Args:
        tree: m segments.
        times: (n,) seconds, the times of the sampled frames.
        config: captioners to ask; fields without a model are left out.
        identity: what determines the pictures and the answers, by captioner.
    """
    asked: list[tuple[str, str, list[int], list[NDArray[np.int64]]]] = []
    if config.segments is not None:
        nodes = list(range(len(tree)))
        clips = choose_frames(times, tree.start, tree.end, config.frames)
        asked.append(("plm_caption", config.segments.prompt, nodes, clips))
        asked.append(("plm_action", config.segments.action_prompt, nodes, clips))
    if config.leaves is not None:
        leaves = np.flatnonzero(tree.is_leaf)
        middles = choose_frames(times, tree.start[leaves], tree.end[leaves], 1)
        asked.append(("llama3_caption", config.leaves.prompt, leaves.tolist(), middles))
    questions = [
        Question(field, node, frames, prompt, _key(times[frames], prompt, identity[FIELDS[field]]))
        for field, prompt, nodes, chosen in asked
        for node, frames in zip(nodes, chosen, strict=True)
    ]
    return sorted(questions, key=lambda question: question.node)


def show(captioner: Captioner, frames: list[NDArray[np.uint8]], times: list[float]) -> Part:
    """Return the frames as the captioner takes them."""
    return Image(frames[0]) if captioner == "leaves" else Clip(frames, times)


def _key(times: NDArray[np.float64], prompt: str, identity: Mapping[str, Any]) -> str:
    return question_key({"times": times.tolist(), "prompt": prompt, **identity})
