"""Models that think aloud: what of their text is the answer."""

from __future__ import annotations

import re

THOUGHT, THOUGHT_ENDS = "<think>", "</think>"
HARMONY = "<|channel|>"
"""Opens a channel of OpenAI's Harmony format."""

_FINAL = re.compile(r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_ENDS = re.compile(r"<\|(?:return|end|call|start)\|>")


def answer_in(text: str) -> str:
    """The final answer in a model's raw text, stripped; "" if it is still thinking.

    Takes away what stands before "</think>", and all but the final channel of OpenAI's Harmony
    format (https://github.com/openai/harmony). Other text is the answer as it is.
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
