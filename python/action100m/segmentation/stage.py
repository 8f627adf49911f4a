"""Stage 1: from a video to its dendrogram and frame times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action100m.config import Config, CutConfig, parse_config
from action100m.errors import VideoError
from action100m.processes import available_cpus
from action100m.segmentation.encoders import Encoder, load_encoder, open_encoder
from action100m.segmentation.filmstrip import Filmstrip, Thumbnail
from action100m.segmentation.pieces import Pieces, encode_in_pieces
from action100m.segmentation.windows import WindowedEncoder
from action100m.trace import VIDEO_SECONDS, span
from action100m.tree import ABSORB_ABOVE, MIN_DURATION, Dendrogram, Tree, cut, ward
from action100m.video import (
    Decoder,
    DecodeReport,
    FrameBatch,
    FrameSpec,
    FrameStream,
    Progress,
    VideoInfo,
)

_VERSION = 2  # of everything here that affects a part's content
_PIECE_ROWS = 4096
_MOST_THREADS = 16  # more of them take much memory and save little time


class IncompleteVideoError(VideoError):
    """Raised if too few frames of a file could be decoded.

    Attributes:
        coverage: fraction of the expected frames that were decoded, 0 to 1.
    """

    def __init__(self, report: DecodeReport, least: float) -> None:
        hint = f" First error: {report.first_error.rstrip('.')}." if report.first_error else ""
        super().__init__(
            f"Only {report.frames} of {report.expected} frames could be decoded "
            f"({report.coverage:.0%}, less than video.min_coverage = {least:.0%}).{hint} "
            "Download it again, or lower video.min_coverage."
        )
        self.coverage = report.coverage


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result of stage 1 for one video.

    Attributes:
        dendrogram: the dendrogram of the n sampled frames.
        times: (n,) float64, the sampled frames' presentation times in seconds.
        info: properties of the video from its container.
        report: results of decoding.
        thumbnails: 16 to 32 evenly spaced pictures, or fewer for a very short video.
        embeddings: (n, d) float32 if the configuration keeps embeddings, else None.
    """

    dendrogram: Dendrogram
    times: NDArray[np.float64]
    info: VideoInfo
    report: DecodeReport
    thumbnails: list[Thumbnail]
    embeddings: NDArray[np.float32] | None

    @property
    def edges(self) -> NDArray[np.float64]:
        """(n+1,) seconds: sampled frame i represents the time from edges[i] to edges[i+1]."""
        middles = (self.times[:-1] + self.times[1:]) / 2
        return np.concatenate(([0.0], middles, [self.report.end]))

    def tree(self, config: CutConfig) -> Tree:
        """Cut the dendrogram into the tree of segments."""
        return cut(self.dendrogram, self.edges, config.min_duration, config.absorb_above)

    def notes(self, tree: Tree) -> list[str]:
        """Describe in sentences what is unusual about the video or its tree."""
        notes = []
        if self.report.coverage < 1:
            notes.append(f"{self.report.frames} of {self.report.expected} frames were decoded.")
        if self.report.repaired_times:
            repaired = self.report.repaired_times
            notes.append(f"{repaired} timestamps were missing or irregular, and were repaired.")
        if self.report.errors:
            notes.append(f"{self.report.errors} decoding errors, first: {self.report.first_error}")
        if tree.absorbed:
            notes.append(f"{tree.absorbed} short segments were absorbed to split a long leaf.")
        return notes


def segment_identity(config: Config, encoder: Encoder) -> dict[str, Any]:
    """Return everything that determines the content of a segment part, as plain values."""
    return {
        "version": _VERSION,
        "decoder": config.video.decoder,
        "stride": config.video.stride,
        "encoder": encoder.identity,
        "keep_embeddings": config.segmentation.keep_embeddings,
    }


class Segmenter:
    """Segments one video after another; a context manager that owns a decoder process.

    Several segmenters, each in its own thread, may share an encoder.
    """

    def __init__(self, config: Config, encoder: Encoder, *, threads: int = 1) -> None:
        """Create a segmenter; with several decoder threads, see `Decoder.open`."""
        self._config = config
        self._encoder = encoder
        self._threads = threads
        self._decoder = Decoder.of(config.video)

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def segment(
        self, path: Path, progress: Progress | None = None, journal: Path | None = None
    ) -> Segmentation:
        """Decode, embed and cluster one video.

        Args:
            path: a video file.
            progress: called after each batch of frames; may raise to stop, which does not affect
                later calls.
            journal: a folder for this video alone, in which an encoder with a model stores its rows
                while the video is unfinished, so that an interruption loses only minutes of work.

        Raises:
            VideoError: the file cannot be used, or too few of its frames can be decoded.
        """
        spec = FrameSpec(self._config.video.stride, self._encoder.short_side)
        stream = self._decoder.open(path, spec, threads=self._threads)
        try:
            return self._consume(stream, progress, journal)
        finally:
            stream.close()

    def _consume(
        self, stream: FrameStream, progress: Progress | None, journal: Path | None
    ) -> Segmentation:
        filmstrip = Filmstrip()
        times: list[NDArray[np.float64]] = []

        def watched() -> Iterator[FrameBatch]:
            for batch in stream:
                filmstrip.add(batch)
                times.append(batch.times)
                if progress is not None:
                    progress(float(batch.times[-1]), stream.info.duration)
                yield batch

        embeddings = _gathered(self._encode(watched(), journal), self._encoder.dimension)
        report = stream.report
        if not len(embeddings) or report.coverage < self._config.video.min_coverage:
            raise IncompleteVideoError(report, self._config.video.min_coverage)
        with span("ward", frames=len(embeddings), **{VIDEO_SECONDS: report.end}):
            dendrogram = ward(embeddings)
        return Segmentation(
            dendrogram=dendrogram,
            times=np.concatenate(times),
            info=stream.info,
            report=report,
            thumbnails=filmstrip.thumbnails(),
            embeddings=embeddings if self._config.segmentation.keep_embeddings else None,
        )

    def _encode(
        self, frames: Iterator[FrameBatch], journal: Path | None
    ) -> Iterator[NDArray[np.float32]]:
        encoder = self._encoder
        if journal is None or not isinstance(encoder, WindowedEncoder):
            return encoder.encode(frames)
        return encode_in_pieces(encoder, frames, Pieces(journal, encoder.dimension))


def _gathered(batches: Iterable[NDArray[np.float32]], dimension: int) -> NDArray[np.float32]:
    """Concatenate all rows with a peak memory of little more than the result.

    Batches are joined into pieces, and each piece is freed once it has been copied; a plain
    concatenation would hold all rows twice.
    """
    pieces: deque[NDArray[np.float32]] = deque()
    count = 0
    for batch in batches:
        for rows in np.split(batch, range(-count % _PIECE_ROWS, len(batch), _PIECE_ROWS)):
            if len(rows):
                if count % _PIECE_ROWS == 0:
                    pieces.append(np.empty((_PIECE_ROWS, dimension), np.float32))
                start = count % _PIECE_ROWS
                pieces[-1][start : start + len(rows)] = rows
                count += len(rows)
    gathered = np.empty((count, dimension), np.float32)
    for start in range(0, count, _PIECE_ROWS):
        rest = gathered[start : start + _PIECE_ROWS]
        rest[:] = pieces.popleft()[: len(rest)]
    return gathered


def segment_file(path: Path, config: Config) -> Segmentation:
    """Segment a single video, using several CPUs of this machine.

    Raises:
        VideoError: the file cannot be used, or too few of its frames can be decoded.
    """
    with (
        open_encoder(config.segmentation) as encoder,
        Segmenter(config, encoder, threads=min(available_cpus(), _MOST_THREADS)) as segmenter,
    ):
        load_encoder(encoder)
        return segmenter.segment(path)


def segment(
    video: str | Path,
    encoder: str = "descriptor",
    *,
    stride: int = 4,
    min_duration: float = MIN_DURATION,
    absorb_above: float = ABSORB_ABOVE,
) -> Tree:
    """Cut one video into its tree of segments.

    Args:
        video: path of a video file.
        encoder: name of the frame encoder; "descriptor" needs no model.
        stride: every `stride`-th raw frame is sampled.
        min_duration, absorb_above: seconds; see `action100m.cut`.

    Raises:
        VideoError: the file cannot be used; the message gives the reason.
        ConfigError: an argument is out of range.
    """
    config = parse_config(
        {
            "video": {"stride": stride},
            "segmentation": {"encoder": encoder},
            "cut": {"min_duration": min_duration, "absorb_above": absorb_above},
        },
        "segment()",
    )
    try:
        return segment_file(Path(video), config).tree(config.cut)
    except VideoError as error:
        error.args = (f"{video}: {error}",)
        raise
