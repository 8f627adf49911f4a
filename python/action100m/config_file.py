"""Read the configuration from a TOML file and a profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from action100m.config import Config, parse_config, with_table
from action100m.errors import ConfigError

_OF_THE_MODEL = ("revision", "context_length", "tokenizer", "reasoning_effort")
"""Settings that apply to one model only."""

PROFILES = Path(__file__).parent / "profiles"
"""Folder of the model sets, one file each; `--profile` takes their names."""


def load_config(path: str | Path | None, profile: str | None = None) -> Config:
    """Read settings from a TOML file, which may be a whole run.toml.

    Args:
        path: the file; if None, the default settings.
        profile: the name of a model set; settings in the file override those of the profile.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds a wrong or unknown setting; or
            the profile does not exist.
        UsageError: the path of a metadata table is not valid UTF-8.
    """
    path = None if path is None else Path(path)
    values = read_toml(path) if path is not None else {}
    values = values.get("config", values)
    if profile is not None and isinstance(values, dict):
        values = _merged(_read_profile(profile), values)
    bases = () if path is None else (path.parent, Path())
    config = parse_config(values, path or f"Profile {profile}", bases)
    if path is None or config.metadata.table is None:
        return config
    return with_table(config, path.parent / config.metadata.table)


def _read_profile(name: str) -> dict[str, Any]:
    names = sorted(file.stem for file in PROFILES.glob("*.toml"))
    if name not in names:
        raise ConfigError(f"There is no profile {name}: choose from {', '.join(names)}.")
    return read_toml(PROFILES / f"{name}.toml")


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    if _differ(base, over, "engine"):
        return over  # settings of one engine do not apply to another
    if _is_of_another(base, over):
        base = {name: value for name, value in base.items() if name not in _OF_THE_MODEL}
    both = base.keys() & over.keys()
    tables = {key for key in both if isinstance(base[key], dict) and isinstance(over[key], dict)}
    return {**base, **over, **{key: _merged(base[key], over[key]) for key in tables}}


def _is_of_another(base: dict[str, Any], over: dict[str, Any]) -> bool:
    """Return whether settings of an engine, or of a stage with one, name another model."""
    old, new = base.get("model"), over.get("model")
    if isinstance(old, dict) and isinstance(new, dict):
        return _differ(old, new, "engine") or _is_of_another(old, new)
    return _differ(base, over, "model")


def _differ(base: dict[str, Any], over: dict[str, Any], name: str) -> bool:
    return bool(over.get(name, base.get(name)) != base.get(name))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain dictionaries.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
