"""Convert coded frames to small upright RGB pictures."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from action100m.errors import VideoError
from action100m.video.frames import FrameSpec

# libswscale's flags, of which PyAV before 18 names only the first. AREA averages all source pixels;
# ACCURATE_RND and BITEXACT give the same bits on every CPU, whatever its vector instructions.
_AREA, _ACCURATE_RND, _BITEXACT = 0x20, 0x40000, 0x80000
_SCALER = _AREA | _ACCURATE_RND | _BITEXACT
_MAX_ASPECT = 50


@dataclass(frozen=True)
class Orientation:
    """The transformation that the display matrix asks for: first transpose, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Return the orientation, one of eight, that is nearest to the frame's display matrix."""
        sides = cast("Mapping[str, Buffer]", frame.side_data)  # PyAV's type hint is too narrow
        if "DISPLAYMATRIX" not in sides:
            return cls()
        a, b, _, c, d = struct.unpack_from("=5i", bytes(sides["DISPLAYMATRIX"]))
        transpose = abs(b) + abs(c) > abs(a) + abs(d)
        x, y = (c, b) if transpose else (a, d)
        return cls(transpose, x < 0, y < 0)

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an upright view of an (h, w, 3) picture."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]


def display_size(frame: VideoFrame, sample_aspect: Fraction | None) -> tuple[int, int]:
    """Return the width and height of a frame as displayed: upright, with square pixels.

    Raises:
        VideoError: one side is more than 50 times as long as the other, or a side is zero.
    """
    width, height = _lengths(frame, sample_aspect)
    if not 1 <= max(width, height) <= _MAX_ASPECT * min(width, height):
        shape = f"{frame.width} x {frame.height} pixels of aspect {sample_aspect or 1}"
        raise VideoError(f"Its frames have an impossible shape: {shape}. Re-encode it with ffmpeg.")
    size = _round(width), _round(height)
    return size[::-1] if Orientation.of(frame).transpose else size


def _lengths(frame: VideoFrame, sample_aspect: Fraction | None) -> tuple[Fraction, Fraction]:
    """Return width and height in square pixels, before the frame is set upright."""
    return frame.width * (sample_aspect or Fraction(1)), Fraction(frame.height)


class Scaler:
    """Scales frames to one small size and converts them to RGB in one step.

    Attributes:
        orientation: how to set the coded pictures upright.
        size: width, height of the scaled pictures before they are set upright.
        display: width, height of the first frame as displayed.
        shape: (h, w, 3) of the resulting pictures.
    """

    def __init__(self, first: VideoFrame, sample_aspect: Fraction | None, spec: FrameSpec) -> None:
        self.orientation = Orientation.of(first)
        self.display = display_size(first, sample_aspect)
        width, height = _lengths(first, sample_aspect)
        if spec.aspect == "stretch":
            self.size = spec.side, spec.side
        else:
            scale = spec.side / (max if spec.aspect == "pad" else min)(width, height)
            self.size = _round(width * scale), _round(height * scale)
        self._reformatter = VideoReformatter()
        self._marking: Graph | None = None
        self._marked: tuple[int, int, str] | None = None
        width_out, height_out = self._upright(*self.size)
        if spec.aspect != "keep":
            width_out = height_out = spec.side
        self.shape = (height_out, width_out, 3)

    def draw(self, frame: VideoFrame, out: NDArray[np.uint8]) -> None:
        """Write the frame, scaled and upright, to `out`, which has shape `shape`."""
        width, height = self.size
        # The two fields of a picture, scaled apart, would differ from row to row.
        whole = self._as_progressive(frame) if frame.interlaced_frame else frame
        # At this size, a second thread costs more time than it saves.
        small = self._reformatter.reformat(
            whole, width, height, "rgb24", interpolation=_SCALER, threads=1
        )
        plane = small.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        picture = rows[:height, : width * 3].reshape(height, width, 3)
        self.frame(self.orientation.apply(picture), out)

    def frame(self, pictures: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Write upright pictures (..., h, w, 3) of the scaled size to `out` (..., *shape).

        Pictures are centred: what is too large is cropped, what is too small gets black bars.
        """
        size, room = pictures.shape[-3:-1], self.shape[:2]
        (top, above), (left, before) = map(_middles, size, room)
        height, width = map(min, size, room)
        if (height, width) != self.shape[:2]:
            out[:] = 0
        out[..., above : above + height, before : before + width, :] = pictures[
            ..., top : top + height, left : left + width, :
        ]

    def _as_progressive(self, frame: VideoFrame) -> VideoFrame:
        """Return the same picture without the mark that it consists of two fields."""
        form = frame.width, frame.height, frame.format.name
        if self._marking is None or form != self._marked:
            self._marking, self._marked = _marking(frame), form
        frame.pts = 0  # so that the graph passes on every frame, whatever its time
        self._marking.push(frame)
        return self._marking.vpull()

    def _upright(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.orientation.transpose else (width, height)


def _marking(like: VideoFrame) -> Graph:
    """Return a graph that marks pictures of this form as progressive, without copying them."""
    graph = Graph()
    graph.threads = 1  # others would do nothing
    source = graph.add_buffer(
        width=like.width, height=like.height, format=like.format, time_base=Fraction(1)
    )
    graph.link_nodes(source, graph.add("setfield", "prog"), graph.add("buffersink")).configure()
    return graph


def _middles(length: int, room: int) -> tuple[int, int]:
    """Return where a centred part begins in the source and where it begins in the target."""
    return max(0, length - room) // 2, max(0, room - length) // 2


def _round(length: Fraction) -> int:
    return max(1, round(length))
