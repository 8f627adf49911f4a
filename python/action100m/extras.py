"""The optional packages that each extra installs."""

from __future__ import annotations

from importlib.util import find_spec

MODULES = {
    "vjepa2": ("torch", "transformers", "safetensors"),
    "transformers": (
        *("torch", "transformers", "safetensors", "torchvision"),
        *("timm", "num2words", "llguidance", "huggingface_hub"),
    ),
    "openai": ("httpx", "tenacity", "tokenizers", "huggingface_hub"),
    "vllm": ("vllm",),
    "tensorrt": ("torch", "transformers", "safetensors", "onnx", "onnxscript", "tensorrt"),
    "dali": ("nvidia.dali",),
    "query": ("duckdb",),
    "balance": ("faiss",),
    "torch": ("torch",),
    "embeddings": ("sentence_transformers",),
    "fiftyone": ("fiftyone",),
    "figures": ("wordcloud",),
    "hub": ("aiohttp", "huggingface_hub"),
    "test": ("wordcloud", "duckdb", "hypothesis", "jsonschema", "pytest", "sklearn"),
}
"""The modules of each extra, as pyproject.toml lists their packages; developers' extras aside."""


def is_installed(module: str) -> bool:
    """Return whether a module can be found, without loading it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def missing_modules(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [module for module in MODULES[extra] if not is_installed(module)]
