"""run.toml: the settings of a run, sufficient to repeat it.

Fingerprints are read from this file, not recomputed: inspecting or exporting a run needs neither
the models nor the machine that it was made on.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import tomli_w

from action100m.config import Config, fingerprint, parse_config
from action100m.config_file import read_toml
from action100m.errors import ConfigError, UsageError
from action100m.files import write_text
from action100m.runs.folder import RunFolder, StageKey

STAGES = ("segment", "caption", "aggregate")
_LIBRARIES = ("action100m", "av", "numpy", "pillow", "pyarrow")
_OPTIONAL = ("llguidance", "nvidia-dali-cuda130", "tensorrt-cu13", "torch", "transformers", "vllm")
"""Libraries that decode, or that run the models; named if they are installed."""


@dataclass(frozen=True)
class Settings:
    """Contents of run.toml.

    Attributes:
        config: the resolved configuration.
        identities: by stage, in the order of the stages, everything that determines the contents
            of its parts; a stage without a configured model is absent.
    """

    config: Config
    identities: dict[str, dict[str, Any]]

    def key(self, stage: str) -> StageKey:
        """Return the key of a stage, which identifies the folder of its parts."""
        return stage_key(stage, self.identities[stage])

    @property
    def keys(self) -> list[StageKey]:
        """The keys of all configured stages, in the order of the stages."""
        return [self.key(stage) for stage in STAGES if stage in self.identities]

    def make_the_same(self, other: Settings) -> bool:
        """Return whether the same videos would give the same dataset."""
        mine, theirs = self.config, other.config
        return (mine.cut, mine.export, self.keys) == (theirs.cut, theirs.export, other.keys)


def stage_key(stage: str, identity: dict[str, Any]) -> StageKey:
    """Return the key of a stage with this identity."""
    return StageKey(stage, fingerprint(identity))


def read_settings(folder: RunFolder) -> Settings:
    """Read run.toml.

    Raises:
        UsageError: the folder does not contain run.toml.
        ConfigError: run.toml cannot be used.
    """
    if not folder.settings_file.is_file():
        why = "it contains no run.toml" if folder.root.is_dir() else "it does not exist"
        raise UsageError(f"{folder.root} is not a run folder: {why}.")
    values, config = _read(folder)
    identities = values.get("stages")
    if not isinstance(identities, dict) or "segment" not in identities:
        raise ConfigError(
            f"{folder.settings_file} lists no stages: run `action100m run --out {folder.root}` to "
            "write it again."
        )
    return Settings(config, identities)


def read_config(folder: RunFolder) -> Config | None:
    """Return the configuration of a run folder; None if it contains no run.toml.

    Raises:
        ConfigError: run.toml cannot be used.
    """
    if not folder.settings_file.is_file():
        return None
    return _read(folder)[1]


def _read(folder: RunFolder) -> tuple[dict[str, Any], Config]:
    """Return all tables of run.toml, and the configuration among them."""
    values = read_toml(folder.settings_file)
    if "config" not in values:
        raise ConfigError(
            f"{folder.settings_file} has lost its settings: give them again with `action100m run "
            f"--out {folder.root} --config FILE`, which writes it again."
        )
    return values, parse_config(values["config"], folder.settings_file)


def write_settings(folder: RunFolder, settings: Settings) -> None:
    """Write run.toml."""
    values = {
        "config": settings.config.model_dump(mode="json", exclude_none=True),
        "stages": settings.identities,
        "versions": _versions(),
    }
    write_text(folder.settings_file, tomli_w.dumps(values))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
    for name in _OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
