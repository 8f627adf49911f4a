"""Write a dataset's folder in FiftyOne's format: plain files, no database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TextIO

from action100m.dataset.fiftyone.card import CONFIG, MARK, card, config
from action100m.dataset.fiftyone.clock import FrameClock, clock_without_media
from action100m.dataset.fiftyone.fields import LABELS, dataset_document
from action100m.dataset.fiftyone.media import clip_video
from action100m.dataset.fiftyone.names import media_path
from action100m.dataset.fiftyone.samples import FIELDS, Samples
from action100m.dataset.read import Dataset
from action100m.errors import DatasetError, VideoError
from action100m.files import write_atomically, write_text
from action100m.locks import locked
from action100m.video import Decoder

_SHORT_BY = 1.0  # seconds by which a file may be shorter than its segments


@dataclass(frozen=True)
class Export:
    """What to export of a dataset.

    Attributes:
        videos: the media files by uid; None: export samples without media.
        seconds: how much of each video to export, from its first frame.
        url: URL of a video, with "{uid}" in it; None: `full_video_url` is null.
        name: name of the dataset.
    """

    videos: Mapping[str, Path] | None
    seconds: float
    url: str | None = None
    name: str = "action100m"

    def __post_init__(self) -> None:
        if not 0 < self.seconds < inf:
            raise ValueError(f"A clip cannot last {self.seconds} seconds.")


@dataclass
class Written:
    """The result of an export.

    Attributes:
        samples: number of samples written.
        media: their media files, relative to the folder.
        left_out: a sentence for every video that was not exported.
        problems: a sentence for everything else that could not be used.
    """

    samples: int = 0
    media: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def export_fiftyone(
    dataset: Dataset,
    folder: Path,
    export: Export,
    on_video: Callable[[str], object] = lambda uid: None,
) -> Written:
    """Write `folder` so that `fiftyone.Dataset.from_dir` and `load_from_hub` can load it.

    Complete clips from an earlier, perhaps interrupted export are kept. samples.json and
    metadata.json are removed first and written last, so that they never refer to clips that are not
    there. Samples are streamed; memory does not grow with their number.

    Args:
        dataset: the dataset to export.
        folder: a new folder, or one that this function wrote.
        export: what to export.
        on_video: called with the uid of each video when it is done or left out.

    Raises:
        FileExistsError: `folder` contains something else.
        DatasetError: the dataset cannot be read.
        OSError: a file cannot be written.
    """
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        for name in ("samples.json", "metadata.json"):
            (folder / name).unlink(missing_ok=True)
        write_text(folder / CONFIG, config(export.name))
        unread: list[DatasetError] = []

        def leave_out(error: DatasetError) -> None:
            unread.append(error)
            dataset.refuse(error)

        readable = Dataset(dataset.sources, leave_out)
        written = _Writer(readable, folder, export, on_video).write()
        if not unread:  # the clips of an unreadable file take long to write again
            _remove_others(folder, written.media)
        models = made_by(dataset)
        write_text(folder / "frames.json", '{"frames": []}\n')
        write_text(folder / "README.md", card(export.name, written.samples, export.seconds, models))
        document = dataset_document(export.name, {"action100m": models})
        write_text(folder / "metadata.json", json.dumps(document, ensure_ascii=False))
    return written


def made_by(dataset: Dataset) -> dict[str, str]:
    """Return the models and settings on which all of the dataset's files agree."""
    found: list[set[tuple[str, str]]] = []
    for source in dataset.sources:
        with suppress(DatasetError):
            found.append(set(source.made_by().items()))
    return dict(sorted(set.intersection(*found))) if found else {}


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; the dataset needs a folder.")
    config_file = folder / CONFIG
    ours = config_file.is_file() and config_file.read_text("utf-8", "replace").startswith(MARK)
    if not ours and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} holds files not written by an export to FiftyOne; choose another folder "
            "with --out."
        )


class _Writer:
    """The state of one export."""

    def __init__(
        self, dataset: Dataset, folder: Path, export: Export, on_video: Callable[[str], object]
    ) -> None:
        self._dataset, self._folder, self._export = dataset, folder, export
        self._on_video = on_video
        self._total = len(dataset)
        self._seen: set[str] = set()
        self._labelled = False
        self._written = Written()

    def write(self) -> Written:
        with Decoder() as self._decoder:
            write_atomically(self._folder / "samples.json", self._write_samples)
        if self._written.samples and not self._labelled:
            self._written.problems.append("No sample has labels: the dataset has no `gpt` yet.")
        return self._written

    def _write_samples(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write('{"samples": [')
            for _, batch in self._dataset.batches(FIELDS):
                samples = Samples(batch, self._export.url)
                for row, uid in enumerate(batch.uid.to_pylist()):
                    self._add(file, samples, row, uid or "")
            file.write("\n]}\n")

    def _add(self, file: TextIO, samples: Samples, row: int, uid: str) -> None:
        number = self._written.samples
        try:
            path = media_path(uid, number, self._total)
            clock = self._clock(uid, samples.duration(row), self._folder / path)
        except (ValueError, VideoError) as error:
            self._written.left_out.append(f"{uid}: {error}")
        else:
            sample, problems = samples.sample(row, clock, path)
            file.write(f"{',' if number else ''}\n{json.dumps(sample, ensure_ascii=False)}")
            self._seen.add(uid)
            self._labelled |= any(sample[name]["detections"] for name in LABELS)
            self._written.media.add(path)
            self._written.problems += problems
            self._written.samples += 1
        self._on_video(uid)

    def _clock(self, uid: str, full: float, target: Path) -> FrameClock:
        if uid in self._seen:
            raise ValueError("An earlier row has the same uid.")
        if not full:
            raise ValueError("None of its segments has a usable end.")
        seconds = self._export.seconds
        if self._export.videos is None:
            return clock_without_media(full, seconds)
        video = self._export.videos.get(uid)
        clock = clip_video(video, target, seconds, self._decoder)
        if clock.duration < min(full, seconds) - _SHORT_BY:
            raise ValueError(
                f"Its file {video} lasts {clock.duration:.2f} s and its segments {full:.2f} s: "
                "they do not belong to the same video."
            )
        return clock


def _remove_others(folder: Path, media: set[str]) -> None:
    """Remove clips of videos that the dataset no longer has, and what a killed export left."""
    for path in (folder / "data").rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in media:
            path.unlink()
