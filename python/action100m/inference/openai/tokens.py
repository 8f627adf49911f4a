"""The tokenizer of a server's model, to count tokens before it is asked."""

from __future__ import annotations

from typing import Any

from action100m.checkpoint import find_checkpoint
from action100m.config import OpenAIConfig


def load_tokenizer(config: OpenAIConfig) -> Any:
    """Load the one that the configuration names.

    Raises:
        ValueError: it is not to be had.
    """
    from tokenizers import Tokenizer

    assert config.tokenizer is not None
    path = find_checkpoint(config.tokenizer, None, ["tokenizer.json"]).folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{config.tokenizer} has no tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no narrower one
        raise ValueError(f"{path} is no tokenizer: {error}.") from error
    tokenizer.no_truncation()  # as it may have been saved with: we count
    tokenizer.no_padding()
    return tokenizer
