"""From a configuration to an engine. What an engine needs is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from action100m.checkpoint import find_checkpoint
from action100m.config import EngineConfig, OpenAIConfig, TransformersConfig
from action100m.errors import ConfigError, as_config_errors
from action100m.inference.engine import Engine

_PACKAGES = {
    "openai": ("httpx", "tenacity"),
    "transformers": ("torch", "transformers", "safetensors"),
    "vllm": ("vllm",),
}
_PACKAGES_OF_ANNOTATION = {"openai": ("tokenizers",), "transformers": ("llguidance",), "vllm": ()}


def check_engine(config: EngineConfig, *, annotates: bool) -> None:
    """Look whether what an engine needs is here, without loading a model.

    Args:
        config: of the engine.
        annotates: whether its answers must keep a schema and its tokens be counted.

    Raises:
        ConfigError: a package or a setting is missing, and what to do about it.
    """
    needed = _PACKAGES[config.engine]
    if annotates:
        needed += _PACKAGES_OF_ANNOTATION[config.engine]
    missing = [package for package in needed if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"Asking {config.model} by the {config.engine} engine needs what is not installed "
            f"({', '.join(missing)}): pip install 'action100m[{config.engine}]'."
        )
    if annotates and isinstance(config, OpenAIConfig) and config.tokenizer is None:
        raise ConfigError(
            f"Counting tokens for {config.model} needs its tokenizer: set `tokenizer` to its name "
            "on the hub or a folder with its tokenizer.json."
        )


def check_access(config: EngineConfig, *, annotates: bool) -> None:
    """Look whether the key and the tokenizer that asking takes are there.

    Raises:
        ConfigError: one is not.
    """
    if not isinstance(config, OpenAIConfig):
        return
    from action100m.inference.openai import load_tokenizer, read_key

    with as_config_errors():
        read_key(config)
        if annotates:
            load_tokenizer(config)


@contextmanager
def open_engine(config: EngineConfig) -> Iterator[Engine]:
    """The engine that a configuration names, its model loaded; closed with all its requests.

    Raises:
        ConfigError: a package, a checkpoint, a key or a device that it needs is not to be had.
    """
    check_engine(config, annotates=False)
    with as_config_errors():
        opened = _open(config)
        engine = opened.__enter__()
    try:
        yield engine
    finally:
        opened.__exit__(None, None, None)


def pin(config: EngineConfig) -> EngineConfig:
    """The same configuration with the commit that its revision means now.

    A server's model is what its owner says that it is: there is nothing to look up.

    Raises:
        ConfigError: the checkpoint is not to be had.
    """
    if isinstance(config, OpenAIConfig):
        return config
    with as_config_errors():
        found = find_checkpoint(config.model, config.revision, ["config.json"])
    return config.model_copy(update={"revision": found.revision})


def identity(config: EngineConfig) -> dict[str, Any]:
    """What decides an engine's answers, as plain values: the model, not how it is run.

    Raises:
        ConfigError: the checkpoint is not to be had.
    """
    if isinstance(config, OpenAIConfig):
        return {"engine": config.engine, "model": config.model, "revision": config.revision or ""}
    with as_config_errors():
        found = find_checkpoint(config.model, config.revision, ["config.json"])
        return {"engine": config.engine, "model": found.identity, "precision": config.precision}


def _open(config: EngineConfig) -> AbstractContextManager[Engine]:
    if isinstance(config, OpenAIConfig):
        from action100m.inference.openai import open_openai

        return open_openai(config)
    if isinstance(config, TransformersConfig):
        from action100m.inference.transformers import open_transformers

        return open_transformers(config)
    from action100m.inference.vllm import open_vllm

    return open_vllm(config)
