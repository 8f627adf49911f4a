"""Draw small videos with known cut times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_BITS = 8
# Display matrices [a b; c d] of the eight orientations of a camera.
ORIENTATIONS = [
    (a, b, c, d) for x in (1, -1) for y in (1, -1) for a, b, c, d in ((x, 0, 0, y), (0, x, y, 0))
]


def draw_frame(scene: int, moment: float, width: int, height: int) -> NDArray[np.uint8]:
    """Return a frame in a scene's colours, with a disc moving with `moment`, (height, width, 3)."""
    generator = np.random.default_rng(scene)
    low, high = generator.integers(0, 256, (2, 3))
    ramp = np.linspace(0, 1, width)[None, :, None]
    frame = np.broadcast_to(low + (high - low) * ramp, (height, width, 3)).copy()
    angle = 2 * np.pi * (moment + generator.random())
    x = width * (0.5 + 0.3 * np.cos(angle))
    y = height * (0.5 + 0.3 * np.sin(angle))
    rows, columns = np.mgrid[:height, :width]
    frame[(columns - x) ** 2 + (rows - y) ** 2 < (height / 6) ** 2] = generator.integers(0, 256, 3)
    return frame.astype(np.uint8)


def write_video(
    path: Path,
    scenes: list[float],
    *,
    frame_rate: int = 30,
    size: tuple[int, int] = (128, 72),
    codec: str = "libx264",
    seed: int = 0,
) -> Path:
    """Write a video of hard-cut scenes.

    Args:
        path: the file; its suffix determines the container.
        scenes: seconds of each scene.
        frame_rate: frames per second.
        size: width, height.
        codec: an FFmpeg encoder.
        seed: seed of the scenes' colours.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=frame_rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, seconds in enumerate(scenes):
            for frame in range(round(seconds * frame_rate)):
                pixels = draw_frame(seed * 1000 + number, frame / frame_rate / 4, width, height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def with_matrix(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Copy an MP4, with the display matrix of its track replaced by [a b; c d]."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix is 40 bytes into the box
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[at + 4 * place : at + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def with_flags(source: Path, path: Path, movflags: str) -> Path:
    """Copy the packets of a video unchanged to an MP4 that is written with these flags."""
    options = {"movflags": movflags}
    with av.open(str(source)) as video, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(video.streams.video[0])
        for packet in video.demux(video.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return path


def write_numbered(
    path: Path,
    times: list[int],
    *,
    size: tuple[int, int] = (128, 72),
    codec: str = "libvpx-vp9",
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames that show their own number, for `read_numbers`.

    Args:
        path: the file; its suffix determines the container.
        times: milliseconds at which each frame is shown.
        size: width, height.
        codec: an FFmpeg encoder.
        options: options of the encoder.
    """
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            bits = number >> np.arange(_BITS) & 1
            columns = 40 + 170 * bits[np.arange(width) * _BITS // width]
            pixels = np.broadcast_to(columns[None, :, None], (height, width, 3)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_tagged(
    path: Path,
    *,
    size: tuple[int, int] = (160, 90),
    codec: str = "libvpx-vp9",
    **tags: int | Fraction,
) -> Path:
    """Write pictures with coloured stripes, tagged with attributes of PyAV's codec context."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for number in range(8):
            picture = draw_frame(number, 0, width, height) // 2 + 64
            picture[:, width // 4 : width // 2, number % 3] = 180
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_numbers(pixels: NDArray[np.uint8]) -> list[int]:
    """Return the numbers that pictures of `write_numbered`, (b, h, w, 3), show."""
    bars = pixels.mean(axis=(1, 3)).T  # (w, b)
    centres = (np.arange(_BITS) * 2 + 1) * len(bars) // (2 * _BITS)
    return [int(number) for number in (1 << np.arange(_BITS)) @ (bars[centres] > 125)]
