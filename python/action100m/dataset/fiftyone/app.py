"""Open a dataset's folder in the FiftyOne App."""

from __future__ import annotations

from pathlib import Path

from action100m.errors import DatasetError
from action100m.text import first_line


def open_app(folder: Path, port: int) -> None:
    """Load the folder into FiftyOne and serve its App until interrupted.

    FiftyOne loads a copy: changes in the App do not affect the folder.

    Args:
        folder: a dataset in FiftyOne's own format.
        port: port of the App, on localhost only.

    Raises:
        DatasetError: FiftyOne is not installed or cannot start, or `folder` is not such a dataset.
    """
    if not (folder / "metadata.json").is_file():
        raise DatasetError(
            f"{folder} has no metadata.json: it is not a finished FiftyOne dataset. "
            "`action100m export RUN --format fiftyone` creates one."
        )
    try:
        import fiftyone
    except ImportError as error:
        raise DatasetError("The App needs FiftyOne: pip install 'action100m[fiftyone]'.") from error
    try:
        dataset = fiftyone.Dataset.from_dir(str(folder), fiftyone.types.FiftyOneDataset)
        session = fiftyone.launch_app(dataset, port=port, address="localhost")
    except Exception as error:  # FiftyOne passes on errors of its database and its server
        raise DatasetError(f"FiftyOne cannot open {folder}: {first_line(error)}") from error
    session.wait(-1)
