"""Cut the segments of one video into a folder that is written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from action100m.dataset.clips.choice import Segment
from action100m.dataset.filenames import file_name
from action100m.errors import VideoError
from action100m.files import TEMPORARY, sync, write_text
from action100m.schema import HUNDREDTHS
from action100m.video import Clip, Decoder, Obtained

RECORD = "clips.json"
_VERSION = 2  # of the clips; if it changes, existing clips are cut again
_ROUNDED = 0.5 / HUNDREDTHS  # seconds; the largest rounding error of a stored time


@dataclass(frozen=True)
class Clips:
    """The results for the wanted segments of a video.

    Attributes:
        folder: contains the clips, each named by its node id, and their record.
        outcomes: by node id: what the clip contains, or why it could not be cut.
    """

    folder: Path
    outcomes: dict[str, Obtained | str]

    def path(self, node_id: str) -> Path:
        """Return the path of a segment's clip, which need not exist."""
        return self.folder / file_name(node_id, ".mp4", dots=False)


@dataclass(frozen=True)
class Order:
    """The clips that are wanted from one video.

    Attributes:
        video: the video file.
        segments: the segments to cut, at least one.
        folder: the folder for the clips.
        copy: see `Decoder.cut`.
        packed: clips in the record need not exist beside it, because shards contain them.
    """

    video: Path
    segments: list[Segment]
    folder: Path
    copy: bool
    packed: bool

    def existing(self) -> Clips | None:
        """Return the existing clips; None if there are none, or not those that are wanted.

        Raises:
            FileExistsError: shards contain other clips of this video, or clips with other texts.
        """
        try:
            record = json.loads((self.folder / RECORD).read_text("utf-8"))
        except FileNotFoundError:
            return None
        clips = Clips(self.folder, {key: _outcome(value) for key, value in record["clips"].items()})
        obtained = [key for key, value in clips.outcomes.items() if isinstance(value, Obtained)]
        whole = all(clips.path(node_id).is_file() for node_id in obtained)
        if record["wanted"] == self._fingerprint():
            return clips if whole or self.packed else None
        if self.packed and not whole:
            raise FileExistsError(
                f"The shards beside {self.folder.parent} have other clips or texts of "
                f"{self.folder.name}; choose another folder with --out."
            )
        return None

    def cut(self, decoder: Decoder) -> Clips:
        """Cut all clips in one pass over the video.

        Raises:
            VideoError: no clip can be cut.
            OSError: the clips cannot be written.
        """
        fingerprint = self._fingerprint()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        fresh.mkdir()
        try:
            outcomes = self._cut(decoder, fresh)
            record = {"wanted": fingerprint, "clips": {k: _plain(v) for k, v in outcomes.items()}}
            write_text(fresh / RECORD, json.dumps(record, indent=1))
            if self.folder.exists():
                shutil.rmtree(self.folder)
            fresh.rename(self.folder)
            sync(self.folder.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return Clips(self.folder, outcomes)

    def _cut(self, decoder: Decoder, folder: Path) -> dict[str, Obtained | str]:
        outcomes: dict[str, Obtained | str] = {}
        clips: dict[str, Clip] = {}
        for segment in self.segments:
            try:
                clips[segment.node_id] = self._clip(segment, folder)
            except ValueError as error:
                outcomes[segment.node_id] = str(error)
        cuts = decoder.cut(self.video, [*clips.values()], copy=self.copy) if clips else []
        for (node_id, clip), outcome in zip(clips.items(), cuts, strict=True):
            if isinstance(outcome, VideoError):
                clip.target.unlink(missing_ok=True)
                outcomes[node_id] = str(outcome)
            else:
                sync(clip.target)
                outcomes[node_id] = outcome
        return outcomes

    def _clip(self, segment: Segment, folder: Path) -> Clip:
        if not segment.start < segment.end:  # also if one is NaN
            raise ValueError("It does not end after it starts.")
        # The frame at the true start must be included, the one at the true end must not. A copy
        # must begin with the key frame at the start, not with the one before. Before 0 is none,
        # and after 0, a video may have no other frame.
        start = segment.start + (_ROUNDED if self.copy and segment.start > 0 else -_ROUNDED)
        end = segment.end - _ROUNDED
        name = file_name(segment.node_id, ".mp4", dots=False)
        return Clip(max(0.0, start), end, folder / name)

    def _fingerprint(self) -> str:
        times = [(segment.node_id, segment.start, segment.end) for segment in self.segments]
        wanted = [_VERSION, self.copy, self.video.stat().st_size, times]
        if self.packed:  # shards contain the texts too
            wanted.append([segment.texts for segment in self.segments])
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


def _plain(outcome: Obtained | str) -> dict[str, Any]:
    return {"error": outcome} if isinstance(outcome, str) else asdict(outcome)


def _outcome(plain: dict[str, Any]) -> Obtained | str:
    return plain["error"] if "error" in plain else Obtained(**plain)
