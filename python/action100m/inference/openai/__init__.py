"""Any server that speaks OpenAI's chat completions, one or many of them."""

from action100m.inference.openai.engine import open_openai

__all__ = ["open_openai"]
