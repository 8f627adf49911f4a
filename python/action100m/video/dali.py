"""Decode videos with NVIDIA DALI: on the GPU's video engine, or on the CPU (VP9 only).

`pip install 'action100m[dali]'` installs DALI. A machine without network needs only a part of it:
fetch the wheel with `pip download nvidia-dali-cuda130 --no-deps --python-version 3.12
--only-binary :all:`, unpack it, keep `nvidia/dali` without `include/` and without the
`backend_impl*` and `python_function_plugin*` of other Python versions, and `strip --strip-debug`
the libraries. DALI also imports libcst, nvtx, optree, makefun, gast, astunparse and their
dependencies (7 MB); nvimgcodec, nvcomp, nvjpeg and nvtiff are for still pictures and not needed.
Put everything in one folder and add it to PYTHONPATH. The driver must provide
`libnvcuvid.so.1`; in a container, set NVIDIA_DRIVER_CAPABILITIES=video,compute,utility.

We use `fn.experimental.readers.video` because it reads the file piece by piece, whereas
`fn.experimental.inputs.video` and `fn.decoders.video` need all of it in memory, and because,
unlike `fn.readers.video`, the same operator runs on both devices. We rely on it as little as
possible: frame numbers and times come from our own pass over the packets (`timeline`) and are
compared with DALI's, and files that it would silently decode wrongly are refused.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video.backends import require_backend
from action100m.video.frames import DecodeReport, FrameBatch, FrameSpec, VideoInfo
from action100m.video.geometry import Orientation, Scaler
from action100m.video.log import FFmpegLog, clean
from action100m.video.opening import describe, open_video
from action100m.video.timeline import ADVICE, read_timeline

Device = Literal["cpu", "gpu"]

_CONTAINERS = ("mov,", "matroska,")
# On the GPU, DALI gives the next packet's time to each picture that is decoded, shown or not: most
# AV1 files, and many VP9 files, would get wrong pictures without an error.
_CODECS: dict[Device, set[str]] = {"cpu": {"vp9"}, "gpu": {"h264", "hevc", "vp9"}}
# Shares of red and blue in luma, by FFmpeg's colour space number; the values of swscale.
_BT601 = (0.299, 0.114)
_LUMA = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
_SEQUENCE_FRAMES = 32
_SEQUENCE_BYTES = 1 << 27
_LEAP = 11  # from 12 frames on, DALI seeks instead of decoding
_ASSERTION = re.compile(r"^Assert on .*? failed: (.*)$|^(.*[Ee]rror.*)$", re.MULTILINE)


class DaliStream:
    """One pass over a video with DALI: a `FrameStream`.

    Frame numbers, times, report and picture size equal those of `PyAVStream`. Colours differ by
    less than 2.5 of 255 on average over a picture, because chroma is interpolated and pictures are
    scaled with other filters (a triangle here, an area there). DALI knows only the BT.601 matrix;
    pictures with another matrix are corrected afterwards, except for saturated colours outside
    BT.601's range. The report contains only the demuxer's errors: NVDEC silently conceals damage
    inside a picture, and the frames after the last sampled one are not decoded.

    A crash or hang in DALI or in the driver affects the whole process, and an error on the GPU may
    corrupt its context: use `Decoder(backend="dali-gpu")` for untrusted files.
    """

    def __init__(
        self,
        path: Path,
        spec: FrameSpec,
        *,
        device: Device,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Open the file, decode its first frame with PyAV and read all its packets.

        Args:
            path: a local file.
            spec: which frames to sample, and their size.
            device: "gpu" is the first one that CUDA shows to this process.
            on_progress: called for every packet read and every batch decoded.

        Raises:
            VideoError: the file is not a usable video, or DALI would not decode it as PyAV does.
            ConfigError: DALI or the device is not available (`require_backend`).
        """
        require_backend("dali-gpu" if device == "gpu" else "dali-cpu")
        self._path, self._spec, self._device = path, spec, device
        self._on_progress = on_progress
        self._report: DecodeReport | None = None
        with FFmpegLog() as log:
            container, stream = open_video(path, log)
            with container:
                _check_file(container, stream, device)
                first = _first_frame(container, stream)
                _check_frame(first, device)
                self._scaler = Scaler(first, stream.sample_aspect_ratio, spec)
                self._colours = _correction(first.colorspace)
                self._info = describe(container, stream, self._scaler.display)
            container, stream = open_video(path, log)
            with container:
                self._timeline = read_timeline(
                    container,
                    stream,
                    log,
                    self._info,
                    on_progress,
                    one_picture_per_packet=device == "gpu",
                )
        self._step = max(d for d in range(1, _LEAP + 1) if spec.stride % d == 0)
        frame_bytes = first.width * first.height * 3
        self._length = min(_SEQUENCE_FRAMES, max(1, _SEQUENCE_BYTES // frame_bytes))
        self._batches = self._decode()

    @property
    def info(self) -> VideoInfo:
        return self._info

    @property
    def report(self) -> DecodeReport:
        if self._report is None:
            raise RuntimeError("The report is complete once all frames have been read.")
        return self._report

    def __iter__(self) -> Iterator[FrameBatch]:
        return self._batches

    def close(self) -> None:
        self._batches.close()

    def _decode(self) -> Generator[FrameBatch, None, None]:
        frames = self._timeline.report.frames
        span = self._length * self._step
        with tempfile.TemporaryDirectory(prefix="dali-") as folder:
            with self._giving_up(0):
                pipeline = self._pipeline(Path(folder))
            for start in range(0, frames, span):
                numbers = np.arange(start, min(start + span, frames), self._step)
                places = np.flatnonzero(numbers % self._spec.stride == 0)
                # DALI does not accept an empty list; the result for this one is dropped.
                order = places if len(places) else np.zeros(1, np.int64)
                with self._giving_up(start):
                    pixels, index, times = pipeline.run(order=[order.astype(np.int32)])
                self._compare(numbers, self._on_host(index[0]), self._on_host(times[0]))
                self._on_progress()
                if len(places):
                    sampled = numbers[places]
                    framed = self._framed(self._on_host(pixels[0]))
                    yield FrameBatch(sampled, self._timeline.times[sampled], framed)
        self._report = self._timeline.report

    def _framed(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pad or crop scaled pictures, as `FrameSpec.aspect` asks."""
        pixels = np.empty((len(pictures), *self._scaler.shape), np.uint8)
        self._scaler.frame(pictures, pixels)
        return pixels

    @contextmanager
    def _giving_up(self, frame: int) -> Iterator[None]:
        """Turn an error of DALI while it decodes from this frame on into a VideoError."""
        try:
            yield
        except RuntimeError as error:
            seconds = self._timeline.times[frame]
            reason = f"DALI failed after {seconds:.1f} s of video: {_words(error)} {ADVICE}"
            raise VideoError(reason) from None

    def _pipeline(self, folder: Path) -> Any:
        from nvidia.dali import fn, types  # noqa: PLC0415 - 500 MB that only this needs
        from nvidia.dali.pipeline import Pipeline  # noqa: PLC0415

        orientation, (width, height) = self._scaler.orientation, self._scaler.size
        pipeline = Pipeline(
            batch_size=1,
            num_threads=1,
            device_id=0 if self._device == "gpu" else None,
            prefetch_queue_depth=1,  # the reader decodes ahead by itself
        )
        with pipeline:
            pixels, _, index, times = fn.experimental.readers.video(
                device=self._device,
                file_list=str(self._write_list(folder)),
                file_list_format="frames",
                file_list_include_end=False,
                sequence_length=self._length,
                stride=self._step,
                pad_mode="constant",
                enable_frame_num="sequence",
                enable_timestamps=True,
            )
            order = fn.external_source(name="order", dtype=types.INT32, ndim=1)
            pixels = fn.sequence_rearrange(pixels, new_order=order)
            pixels = fn.resize(pixels, size=[height, width], antialias=True)
            if self._colours is not None:
                pixels = fn.coord_transform(pixels, M=self._colours, dtype=types.UINT8)
            pipeline.set_outputs(_upright(fn, pixels, orientation), index, times)
        pipeline.build()
        return pipeline

    def _write_list(self, folder: Path) -> Path:
        """Write the list that names the file and its frames to DALI.

        The name is new, because DALI caches what it has read under a name for the life of the
        process, and has no spaces or colons, which have a meaning in the list.
        """
        link = folder / "video"
        link.symlink_to(self._path.absolute())
        listing = folder / "list"
        listing.write_text(f"{link} 0 0 {self._timeline.report.frames}\n")
        return listing

    def _compare(
        self, numbers: NDArray[np.int64], index: NDArray[np.int32], times: NDArray[np.float64]
    ) -> None:
        """Raise VideoError if DALI's frame numbers or times differ from ours."""
        count = len(numbers)
        expected = self._timeline.times[numbers]
        if not (
            np.array_equal(index[:count], numbers)
            and (index[count:] < 0).all()
            and np.allclose(times[:count], expected, rtol=0, atol=1e-6)
        ):
            raise VideoError(
                f"DALI and FFmpeg find different frames from {expected[0]:.1f} s on. {ADVICE}"
            )

    def _on_host(self, array: Any) -> NDArray[Any]:
        return np.array(array.as_cpu() if self._device == "gpu" else array)


def _check_file(container: InputContainer, stream: VideoStream, device: Device) -> None:
    kind, codec = container.format.name, stream.codec_context.codec.canonical_name
    if not kind.startswith(_CONTAINERS):
        raise VideoError(f"DALI is used on MP4, MOV, Matroska and WebM only, not {kind}. {ADVICE}")
    if codec not in _CODECS[device]:
        names = ", ".join(sorted(_CODECS[device]))
        where = device.upper()
        raise VideoError(f"On the {where}, DALI is used for {names} only, not {codec}. {ADVICE}")
    if len(container.streams.video) > 1:
        raise VideoError(f"It has several video streams, and DALI may choose any. {ADVICE}")


def _check_frame(frame: VideoFrame, device: Device) -> None:
    if frame.format.name not in {"yuv420p", "yuvj420p"}:
        raise VideoError(f"DALI supports only 8-bit 4:2:0, not {frame.format.name}. {ADVICE}")
    if frame.width % 2 or frame.height % 2:
        size = f"{frame.width} x {frame.height}"
        raise VideoError(f"DALI's colours are wrong at an odd size such as {size}. {ADVICE}")
    if device == "gpu" and frame.interlaced_frame:
        raise VideoError(f"On the GPU, DALI may confuse the fields of interlaced video. {ADVICE}")
    if device == "cpu" and frame.color_range == ColorRange.JPEG:
        raise VideoError(f"On the CPU, DALI reads its full-range colours as limited. {ADVICE}")


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame:
    stream.codec_context.thread_count = 1
    try:
        frame = next(container.decode(stream), None)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise VideoError(f"Its first picture is damaged ({clean(str(error))}). {ADVICE}") from None
    if frame is None:
        raise VideoError("No frame can be decoded (its video stream is empty). Download it again.")
    return frame


def _correction(colorspace: int) -> list[float] | None:
    """Return the matrix from RGB as BT.601 gives it to RGB of the file's colour space, or None."""
    luma = _LUMA.get(colorspace)
    if luma is None:
        return None
    matrix = _to_rgb(*luma) @ np.linalg.inv(_to_rgb(*_BT601))
    return [float(value) for value in matrix.ravel()]


def _to_rgb(red: float, blue: float) -> NDArray[np.float64]:
    """Return the (3, 3) matrix from Y, Cb, Cr, with chroma in -0.5 to 0.5, to RGB."""
    green = 1 - red - blue
    return np.array(
        [
            [1, 0, 2 - 2 * red],
            [1, (2 * blue - 2) * blue / green, (2 * red - 2) * red / green],
            [1, 2 - 2 * blue, 0],
        ]
    )


def _upright(fn: Any, pixels: Any, orientation: Orientation) -> Any:
    if orientation.transpose:
        pixels = fn.transpose(pixels, perm=[0, 2, 1, 3], output_layout="FHWC")
    if orientation.mirror_x or orientation.mirror_y:
        pixels = fn.flip(
            pixels, horizontal=int(orientation.mirror_x), vertical=int(orientation.mirror_y)
        )
    return pixels


def _words(error: RuntimeError) -> str:
    """Return the core of DALI's error message, without the stack trace around it."""
    text = str(error).split("encountered:")[-1]
    found = _ASSERTION.search(text)
    words = found[1] or found[2] if found else text
    return clean(words).rstrip(".") + "."
