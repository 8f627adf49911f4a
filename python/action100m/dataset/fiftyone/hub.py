"""Upload a dataset's folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from action100m.dataset.fiftyone.card import CONFIG
from action100m.errors import DatasetError
from action100m.files import TEMPORARY
from action100m.text import first_line

_FILES = ("metadata.json", "samples.json", "frames.json", CONFIG, "README.md")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Make the content of the Hub dataset `repository` that of `folder`, in one commit.

    Files that were uploaded before an interruption are not uploaded again. The token is that of
    `hf auth login` or of HF_TOKEN.

    Args:
        folder: a finished export to FiftyOne.
        repository: USER/NAME; created if it does not exist.
        public: whether a new repository is public; an existing one keeps its visibility.

    Returns:
        The URL of the commit.

    Raises:
        DatasetError: `folder` is unfinished, huggingface_hub is not installed, or the Hub refuses.
    """
    if missing := [name for name in _FILES if not (folder / name).is_file()]:
        raise DatasetError(
            f"{folder} has no {', '.join(missing)}: it is not a finished export. "
            "`action100m export RUN --format fiftyone` creates or completes one."
        )
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise DatasetError(
            "Pushing needs huggingface_hub: pip install 'action100m[hub]'."
        ) from error
    try:
        api = hub.HfApi()
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=[*_FILES, "data/**"],
            ignore_patterns=[f"{TEMPORARY}*", f"*/{TEMPORARY}*"],
            delete_patterns=["data/**"],  # clips that the dataset no longer has
            commit_message="Upload dataset",
        )
    except Exception as error:  # of the network, of names or tokens; from any library
        raise DatasetError(
            f"{repository} cannot be written on the Hugging Face Hub: {first_line(error)}"
        ) from error
    return str(commit)
