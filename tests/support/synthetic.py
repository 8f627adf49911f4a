"""Draws small videos whose cut times are known."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def draw_frame(scene: int, moment: float, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of a scene's own colours, with a disc that moves with `moment`."""
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
        path: where to; the suffix names the container.
        scenes: seconds of each scene.
        frame_rate: frames per second.
        size: width, height.
        codec: an FFmpeg encoder.
        seed: of the scenes' colours.
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
