"""Quote untrusted text in a prompt: tidied, and limited in length."""

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
    """Return a text as a JSON string that can neither end early nor look like a model's markup.

    Args:
        text: untrusted text of a site or a model.
        most: maximum number of characters; longer text is cut, and ends in "…".

    Returns:
        The string, and whether it was cut.
    """
    tidy = _MARKUP.sub(r"\g<0> ", " ".join(_CONTROL.sub(" ", text[: 2 * most]).split()))
    cut = len(tidy) > most or len(text) > 2 * most
    return json.dumps(tidy[: most - 1] + "…" if cut else tidy, ensure_ascii=False), cut
