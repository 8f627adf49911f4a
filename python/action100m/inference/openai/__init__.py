"""Any server that speaks OpenAI's chat completions, one or many of them."""

from action100m.inference.openai.credentials import read_key
from action100m.inference.openai.engine import open_openai
from action100m.inference.openai.tokens import load_tokenizer

__all__ = ["load_tokenizer", "open_openai", "read_key"]
