"""Open the engine of a configuration. Its packages are imported only when it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from action100m.checkpoint import find_checkpoint
from action100m.config import EngineConfig, OpenAIConfig, TransformersConfig
from action100m.errors import ConfigError, as_config_errors
from action100m.extras import is_installed
from action100m.inference.engine import Engine

_PACKAGES = {
    "openai": ("httpx", "tenacity"),
    "transformers": ("torch", "transformers", "safetensors"),
    "vllm": ("vllm",),
}
_PACKAGES_OF_ANNOTATION = {"openai": ("tokenizers",), "transformers": ("llguidance",), "vllm": ()}


def check_engine(config: EngineConfig, *, annotates: bool) -> None:
    """Check that what an engine needs is available, without loading a model.

    Args:
        config: configuration of the engine.
        annotates: whether its answers must follow a schema and its tokens must be counted.

    Raises:
        ConfigError: a package or a setting is missing; the message says what to do.
    """
    needed = _PACKAGES[config.engine]
    if annotates:
        needed += _PACKAGES_OF_ANNOTATION[config.engine]
    missing = [package for package in needed if not is_installed(package)]
    if missing:
        raise ConfigError(
            f"Running {config.model} with the {config.engine} engine needs packages that are not "
            f"installed ({', '.join(missing)}): pip install 'action100m[{config.engine}]'."
        )
    if annotates and isinstance(config, OpenAIConfig) and config.tokenizer is None:
        raise ConfigError(
            f"Counting tokens for {config.model} needs its tokenizer: set `tokenizer` to its name "
            "on the hub or to a folder that contains its tokenizer.json."
        )


def check_access(config: EngineConfig, *, annotates: bool) -> None:
    """Check that the key and the tokenizer that requests need are available.

    Raises:
        ConfigError: one of them is not available.
    """
    if not isinstance(config, OpenAIConfig):
        return
    from action100m.inference.openai import load_tokenizer, read_key

    with as_config_errors():
        read_key(config)
        if annotates:
            load_tokenizer(config)


@contextmanager
def open_engine(config: EngineConfig, *, pictures: int = 1) -> Iterator[Engine]:
    """Open the configured engine and load its model; on exit, close it and cancel its requests.

    Args:
        config: configuration of the engine.
        pictures: maximum number of pictures in a request, or of frames in its clip.

    Raises:
        ConfigError: a package, a checkpoint, a key or a device that it needs is not available.
    """
    check_engine(config, annotates=False)
    with ExitStack() as stack:
        with as_config_errors():
            engine = stack.enter_context(_open(config, pictures))
        yield engine


def pin(config: EngineConfig) -> EngineConfig:
    """Return the configuration with its revision resolved to the current commit.

    The model of a server cannot be looked up: its configuration is returned as it is.

    Raises:
        ConfigError: the checkpoint is not available.
    """
    if isinstance(config, OpenAIConfig):
        return config
    with as_config_errors():
        found = find_checkpoint(config.model, config.revision, ["config.json"])
    return config.model_copy(update={"revision": found.revision})


def identity(config: EngineConfig) -> dict[str, Any]:
    """Return what determines an engine's answers, as plain values: the model, not how it is run.

    Raises:
        ConfigError: the checkpoint is not available.
    """
    if isinstance(config, OpenAIConfig):
        return {"engine": config.engine, "model": config.model, "revision": config.revision or ""}
    with as_config_errors():
        found = find_checkpoint(config.model, config.revision, ["config.json"])
        return {"engine": config.engine, "model": found.identity, "precision": config.precision}


def _open(config: EngineConfig, pictures: int) -> AbstractContextManager[Engine]:
    if isinstance(config, OpenAIConfig):
        from action100m.inference.openai import open_openai

        return open_openai(config)
    if isinstance(config, TransformersConfig):
        from action100m.inference.transformers import open_transformers

        return open_transformers(config)
    from action100m.inference.vllm import open_vllm

    return open_vllm(config, pictures)
