"""Find model checkpoints: a local folder, or a name on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_CHUNK = 2**22
_MODEL_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")


class CheckpointError(ValueError):
    """A checkpoint that cannot be obtained or used."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        source: the hub name or the path that was requested.
        folder: the folder with its files.
        revision: the hub's commit, 40 hex digits; None for a local folder.
    """

    source: str
    folder: Path
    revision: str | None

    @cached_property
    def identity(self) -> str:
        """The hub name with its commit; for a local folder, the SHA-256 of its model files."""
        if self.revision is not None:
            return f"{self.source}@{self.revision}"
        digest = hashlib.sha256()
        for path in sorted({path for kind in _MODEL_FILES for path in self.folder.glob(kind)}):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode(errors="surrogateescape"))
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"


def find_checkpoint(
    source: str, revision: str | None = None, patterns: Iterable[str] = _MODEL_FILES
) -> Checkpoint:
    """Find a checkpoint, and download it if it is not on this machine.

    Args:
        source: a local folder, or a name on the hub such as "facebook/Perception-LM-3B". With
            HF_HUB_OFFLINE=1, only the hub's cache is used.
        revision: a commit, branch or tag on the hub; by default the newest commit.
        patterns: globs of the files to download; by default no pickled weights and no code.

    Raises:
        CheckpointError: the checkpoint cannot be found or downloaded.
        ModuleNotFoundError: `source` is a name on the hub and huggingface_hub is not installed.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"{source} is a local folder, so it has no revision {revision}.")
        return Checkpoint(source, folder, None)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise CheckpointError(f"There is no folder {source} with a checkpoint.")
    folder = _download(source, revision, list(patterns))
    return Checkpoint(source, folder, folder.name)


def _download(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub.errors import (
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f" at revision {revision}" if revision else ""
    try:
        return _from_hub_or_cache(name, revision, patterns)
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name}{at} is not in this machine's cache, and the Hugging Face hub cannot be "
            "reached or HF_HUB_OFFLINE is set: download it first, or give a local folder."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"The hub has no revision {revision} of {name}.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no folder {name}, and the Hugging Face hub has no such model, or it is "
            "private: check the name and your access."
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"{name} is neither a folder nor a name on the hub.") from error
    except OSError as error:
        raise CheckpointError(f"Cannot download {name}{at} from the hub: {error}.") from error


def _from_hub_or_cache(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(*, offline: bool) -> Path:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, local_files_only=offline
            )
        )

    try:
        return fetch(offline=False)
    except (LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, ValueError):
        raise
    # Some versions do not look into the cache for a commit, and the error of a failed connection
    # depends on the HTTP library that the version uses.
    except Exception as down:
        try:
            return fetch(offline=True)
        except LocalEntryNotFoundError as absent:
            raise absent from down
