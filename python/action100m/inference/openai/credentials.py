"""The key that servers require."""

from __future__ import annotations

import os
from pathlib import Path

from action100m.config import OpenAIConfig


def read_key(config: OpenAIConfig) -> str:
    """Return the key; "" if none is configured.

    Raises:
        ValueError: the key is not where the configuration says, or cannot be sent.
    """
    if config.key_variable is not None:
        place = f"The environment variable {config.key_variable}"
        key = os.environ.get(config.key_variable, "").strip()
    elif config.key_file is not None:
        place, key = f"The file {config.key_file}", _read(config.key_file).strip()
    else:
        return ""
    if not key:
        raise ValueError(f"{place} holds no key.")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"{place} holds more than a key, or a damaged one: a key is one line of printable "
            "ASCII characters."
        )
    return key


def _read(file: str) -> str:
    try:
        return Path(file).expanduser().read_text("utf-8-sig")  # Windows writes a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not a text file"
        raise ValueError(f"Cannot read the key from {file}: {why}.") from None
