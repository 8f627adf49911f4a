"""Separate a model's final answer from its reasoning."""

from __future__ import annotations

import re

THOUGHT, THOUGHT_ENDS = "<think>", "</think>"
HARMONY = "<|channel|>"
"""Opens a channel of OpenAI's Harmony format."""

_FINAL = re.compile(r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_ENDS = re.compile(r"<\|(?:return|end|call|start)\|>")


def answer_in(text: str) -> str:
    """Return the final answer in a model's raw text, stripped; "" if it is still reasoning.

    Removes everything up to "</think>", and all but the final channel of OpenAI's Harmony format
    (https://github.com/openai/harmony). Other text is returned as the answer.
    """
    if HARMONY in text:
        finals = list(_FINAL.finditer(text))
        text = _ENDS.split(text[finals[-1].end() :], maxsplit=1)[0] if finals else ""
    _, ended, after = text.rpartition(THOUGHT_ENDS)
    if ended:
        text = after
    elif text.lstrip().startswith(THOUGHT):
        text = ""
    return text.strip()
