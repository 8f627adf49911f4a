"""Engine for one or several servers with OpenAI's chat completions interface."""

from action100m.inference.openai.credentials import read_key
from action100m.inference.openai.engine import open_openai
from action100m.inference.openai.tokens import load_tokenizer

__all__ = ["load_tokenizer", "open_openai", "read_key"]
