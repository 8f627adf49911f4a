"""Any server that speaks OpenAI's chat completions, one or many of them."""

from __future__ import annotations

# Only to say in one sentence which of them is missing.
try:
    import httpx  # noqa: F401
    import tenacity  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"Asking a server needs {error.name}, which is not installed: "
        "pip install 'action100m[openai]'."
    ) from error

from action100m.inference.openai.engine import open_openai

__all__ = ["open_openai"]
