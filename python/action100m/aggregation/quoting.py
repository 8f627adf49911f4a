"""Text of others in a prompt: quoted, tidied, and no longer than it may be."""

from __future__ import annotations

import json
import re

# U+FF5C is DeepSeek's bar; the words in brackets are Mistral's.
_MARKUP = re.compile(
    r"<(?=[|\uff5c/!a-zA-Z_])"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]+|IMG[A-Z_]*)\])"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def quoted(text: str, most: int) -> tuple[str, bool]:
    """A text as a JSON string that can neither end itself nor look like a model's markup.

    Args:
        text: of a site or a model: nobody has looked at it.
        most: characters; what is longer is cut, and ends in "…".

    Returns:
        The string, and whether it was cut.
    """
    tidy = _MARKUP.sub(r"\g<0> ", " ".join(_CONTROL.sub(" ", text[: 2 * most]).split()))
    cut = len(tidy) > most or len(text) > 2 * most
    return json.dumps(tidy[: most - 1] + "…" if cut else tidy, ensure_ascii=False), cut
