"""The tokenizer of a server's model, to count tokens before a request."""

from __future__ import annotations

from typing import Any

from action100m.checkpoint import find_checkpoint
from action100m.config import OpenAIConfig


def load_tokenizer(config: OpenAIConfig) -> Any:
    """Load the configured tokenizer.

    Raises:
        ValueError: the tokenizer is not available.
    """
    from tokenizers import Tokenizer

    assert config.tokenizer is not None
    path = find_checkpoint(config.tokenizer, None, ["tokenizer.json"]).folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{config.tokenizer} has no tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer: {error}.") from error
    tokenizer.no_truncation()  # a limit saved with it would make counts wrong
    tokenizer.no_padding()
    return tokenizer
