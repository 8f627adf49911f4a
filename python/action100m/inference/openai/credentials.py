"""The key that servers require."""

from __future__ import annotations

import os
from pathlib import Path

from action100m.config import OpenAIConfig


def read_key(config: OpenAIConfig) -> str:
    """Return the key; "" if none is configured.

    Raises:
        ValueError: the key is not where the configuration says.
    """
    if config.key_variable is not None:
        key = os.environ.get(config.key_variable, "").strip()
        if not key:
            raise ValueError(f"The environment variable {config.key_variable} holds no key.")
        return key
    if config.key_file is not None:
        try:
            key = Path(config.key_file).expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not a text file"
            raise ValueError(f"Cannot read the key from {config.key_file}: {why}.") from None
        if not key:
            raise ValueError(f"The file {config.key_file} holds no key.")
        return key
    return ""
