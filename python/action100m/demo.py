"""Draws the demo's video: how tea is made, in eight steps of a few shots each."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FRAME_RATE = 30
SIZE = (512, 288)  # whole 32 x 32 blocks: else encoders read unset padding, and bytes vary
_SMOOTH = 2  # scale at which frames are drawn before they are reduced, for smooth edges
_HOLD = 2  # frames that each drawing is shown for, as in hand-drawn animation
_WIDE, _HIGH = 16.0, 9.0  # the stage's own units
_UNIT = SIZE[0] * _SMOOTH / _WIDE
_TABLE = 6.6
_CIRCLE = [cmath.exp(2j * math.pi * k / 40) for k in range(40)]

_WHITE, _STEEL, _SHADE, _INK = "#fffaf0", "#c9d1d6", "#8e9aa3", "#3a3340"
_CHINA, _LEAF, _TEA, _WATER = "#d9583f", "#4f6b3a", "#b5651d", "#6fb7dc"


@dataclass(frozen=True)
class _Brush:
    """Draws in coordinates that can be moved, turned and scaled; points are complex numbers."""

    canvas: ImageDraw.ImageDraw
    scale: complex = 1
    origin: complex = 0

    def moved(self, to: complex, turn: float = 0, scale: float = 1) -> _Brush:
        factor = self.scale * scale * cmath.exp(1j * turn)
        return _Brush(self.canvas, factor, self.scale * to + self.origin)

    def shape(self, points: Sequence[complex], color: str) -> None:
        self.canvas.polygon(self._pixels(points), fill=color)

    def oval(self, centre: complex, across: float, down: float, color: str) -> None:
        self.shape([centre + complex(across * p.real, down * p.imag) for p in _CIRCLE], color)

    def box(self, corner: complex, size: complex, color: str) -> None:
        across, down = complex(size.real), 1j * size.imag
        self.shape([corner, corner + across, corner + size, corner + down], color)

    def line(self, points: Sequence[complex], width: float, color: str) -> None:
        thick = max(1, round(width * abs(self.scale)))
        self.canvas.line(self._pixels(points), fill=color, width=thick, joint="curve")
        for end in (points[0], points[-1]):
            self.oval(end, width / 2, width / 2, color)

    def _pixels(self, points: Sequence[complex]) -> list[tuple[float, float]]:
        placed = [point * self.scale + self.origin for point in points]
        return [(point.real, point.imag) for point in placed]


# Objects. Each is drawn around its own origin.


def _kettle(brush: _Brush) -> None:
    brush.line([1.2 * cmath.exp(1j * a / 10) * 0.9 - 1.1j for a in range(-32, 1)], 0.24, _INK)
    brush.shape([-1.2 + 0.1j, -2.5 - 1.15j, -2.15 - 1.3j, -0.8 - 0.75j], _SHADE)
    brush.shape([-1.05 - 1j, 1.05 - 1j, 1.6 + 1.2j, -1.6 + 1.2j], _STEEL)
    brush.shape([-1.6 + 1.2j, 1.6 + 1.2j, 1.5 + 1.45j, -1.5 + 1.45j], _SHADE)
    brush.shape([-0.75 - 0.8j, -0.45 - 0.8j, -0.75 + 1j, -1.15 + 1j], _WHITE)
    brush.oval(-1j, 1.05, 0.24, _SHADE)
    brush.oval(-1.3j, 0.2, 0.2, _INK)


def _teapot(brush: _Brush, lid: bool = True) -> None:
    brush.line([1.2 + 0.95 * cmath.exp(1j * a / 10) for a in range(-15, 17)], 0.3, _CHINA)
    brush.line([-1.1 + 0.55j, -1.9 + 0.1j, -2.1 - 0.6j, -2.6 - 0.9j], 0.42, _CHINA)
    brush.oval(0, 1.65, 1.3, _CHINA)
    brush.oval(-0.6 - 0.45j, 0.38, 0.28, "#ee8a70")
    for k in range(-2, 3):
        brush.oval(0.5 * k + 0.45j, 0.14, 0.14, _WHITE)
    brush.oval(-1.15j, 0.85, 0.24, "#b5432d" if lid else _INK)
    if lid:
        brush.oval(-1.5j, 0.22, 0.22, _WHITE)


def _cup(brush: _Brush, full: float) -> None:
    brush.line([1.1 + 0.2j + 0.55 * cmath.exp(1j * a / 10) for a in range(-15, 16)], 0.22, _WHITE)
    brush.shape([-1.2 - 0.8j, 1.2 - 0.8j, 0.75 + 1.2j, -0.75 + 1.2j], _WHITE)
    brush.oval(-0.8j, 1.2, 0.3, "#e6dfd2")
    if full > 0:
        brush.oval(-0.8j + 0.22j * (1 - full), 1.1 * (0.6 + 0.4 * full), 0.24 * full, _TEA)
    brush.shape([-0.9 + 0.1j, 0.9 + 0.1j, 0.84 + 0.4j, -0.84 + 0.4j], "#5b8fb9")


def _saucer(brush: _Brush) -> None:
    brush.oval(1.25j, 1.9, 0.28, "#d8d3c8")


def _spoon(brush: _Brush, load: str | None = None) -> None:
    brush.line([0.3, 2.6 - 0.7j], 0.16, _SHADE)
    brush.oval(0, 0.5, 0.26, _SHADE)
    if load:
        brush.oval(-0.12j, 0.4, 0.24, load)


def _steam(brush: _Brush, time: float, color: str, wisps: int = 3) -> None:
    for wisp in range(wisps):
        sway = [0.16 * math.sin(3 * time + 1.9 * wisp + 0.7 * k) for k in range(9)]
        at = (wisp - (wisps - 1) / 2) * 0.7
        brush.line([at + x - 0.24j * k for k, x in enumerate(sway)], 0.17, color)


def _stream(brush: _Brush, fall: float, time: float, color: str) -> None:
    brush.line([0.05 * math.sin(9 * time - k) + 1j * fall * k / 8 for k in range(9)], 0.26, color)


def _flame(brush: _Brush, time: float) -> None:
    for k in range(-3, 4):
        tall = 0.75 + 0.25 * math.sin(11 * time + 2.3 * k)
        foot = 0.5 * k + 0.0j
        brush.shape([foot - 0.24, foot - 1j * tall, foot + 0.24], "#f2a33a")
        brush.shape([foot - 0.12, foot - 0.55j * tall, foot + 0.12], "#5aa9e6")


def _clock(brush: _Brush, hours: float) -> None:
    brush.oval(0, 1.7, 1.7, _INK)
    brush.oval(0, 1.5, 1.5, _WHITE)
    for k in range(12):
        mark = cmath.exp(2j * math.pi * k / 12)
        brush.line([1.2 * mark, 1.35 * mark], 0.1, _INK)
    brush.line([0, -1.1j * cmath.exp(2j * math.pi * hours)], 0.13, _INK)
    brush.line([0, -0.75j * cmath.exp(2j * math.pi * hours / 12)], 0.18, _CHINA)


def _room(brush: _Brush, wall: str, table: str) -> None:
    brush.box(-10 - 10j, 40 + 40j, wall)
    brush.box(-10 + _TABLE * 1j, 40 + 20j, table)
    brush.box(-10 + _TABLE * 1j, 40 + 0.16j, _INK)


def _swing(t: float) -> float:
    """Return 0 to 1 and back for `t` from 0 to 1, with rests at both ends."""
    return min(1.0, max(0.0, 0.5 - 0.75 * math.cos(2 * math.pi * t)))


# Steps. `t` runs from 0 to 1 over a step of any length.


def _fill_the_kettle(brush: _Brush, t: float) -> None:
    _room(brush, "#bfe0ea", "#6f9fb0")
    for column in range(9):
        brush.box(2.0 * column - 1 + 0.6j, 0.08 + 5.6j, "#a9d0dc")
    brush.line([16, 9.2 + 0j, 8.2 + 0.1j, 8 + 1.2j], 0.7, _SHADE)
    if t > 0.12:
        _stream(brush.moved(8 + 1.3j), 3.1, 14 * t, _WATER)
    _kettle(brush.moved(8 + 5.2j))
    level = 1.5 * t
    brush.box(8.5 + 6.2j - 1j * level, 0.4 + 1j * level, _WATER)


def _boil_the_water(brush: _Brush, t: float) -> None:
    _room(brush, "#463a5e", "#2a2338")
    brush.box(4.6 + 6.3j, 6.8 + 0.4j, "#15121d")
    _flame(brush.moved(8 + 6.3j), 15 * t)
    shake = 0.06 * math.sin(90 * t) * max(0.0, t - 0.4)
    _kettle(brush.moved(8 + shake + 4.1j, shake / 2))
    if t > 0.3:
        _steam(brush.moved(5.3 + 2.5j, -0.3), 15 * t, "#b9b0cc", 1 + round(3 * t))


def _spoon_the_leaves(brush: _Brush, t: float) -> None:
    _room(brush, "#dfe8c8", "#9c7a52")
    brush.box(10.6 + 4.1j, 2.9 + 2.5j, _LEAF)
    brush.box(10.6 + 4.9j, 2.9 + 0.9j, "#e8dcae")
    brush.oval(12.05 + 4.1j, 1.45, 0.3, "#2f3f24")
    _teapot(brush.moved(5 + 5.3j), lid=False)
    trip = 4 * t % 1
    swing = _swing(trip)
    at = 11.6 - 6.4 * swing + 1j * (3.9 - 1.9 * math.sin(math.pi * swing))
    _spoon(brush.moved(at), "#2f3f24" if trip < 0.5 else None)
    if 0.45 < trip < 0.6:
        fallen = 3.6 + 6 * (trip - 0.45)
        for k in range(5):
            brush.oval(5 + 0.14 * (k - 2) + 1j * (fallen - 0.1 * (k % 2)), 0.09, 0.09, _LEAF)


def _pour_the_water(brush: _Brush, t: float) -> None:
    _room(brush, "#f6e3c5", "#b98a5a")
    for row in range(3):
        for column in range(8):
            dot = complex(2.3 * column + 1.1 * (row % 2), 0.8 + 2.1 * row)
            brush.oval(dot, 0.2, 0.2, "#ecd0a4")
    tilt = _swing(2 * t)
    if tilt > 0.7:
        _stream(brush.moved(5.1 + 2.9j), 1.7, 14 * t, _WATER)
    _teapot(brush.moved(5 + 5.3j), lid=False)
    _kettle(brush.moved(8.6 + 1j * (3.6 - 0.9 * tilt), -0.75 * tilt))
    if t > 0.4:
        _steam(brush.moved(4.2 + 3.6j), 12 * t, _WHITE, 2)


def _let_it_stand(brush: _Brush, t: float) -> None:
    _room(brush, "#2d4a63", "#1d2f40")
    brush.box(1.2 + 0.9j, 5 + 4.2j, "#16263a")
    brush.oval(5 + 2.1j, 0.6, 0.6, "#f5e6b8")
    for k in range(7):
        brush.oval(1.7 + 0.63 * k + 1j * (1.4 + (k * 5 % 7) * 0.45), 0.05, 0.05, _WHITE)
    brush.line([3.7 + 0.9j, 3.7 + 5.1j], 0.16, "#55738c")
    _clock(brush.moved(11.5 + 2.6j), 3 * t)
    _teapot(brush.moved(7 + 5.3j, scale=0.95))
    _steam(brush.moved(4.6 + 4.1j), 14 * t, "#7f9cb2", 2)


def _pour_the_tea(brush: _Brush, t: float) -> None:
    _room(brush, "#f2c6b8", "#a8584a")
    for k in range(6):
        brush.box(3.2 * k + 0j, 1.2 + 6.6j, "#efbbab")
    tilt = _swing(2 * t)
    left = t < 0.5
    for cup, full in ((3.6, 2 * t), (7.4, 2 * t - 1)):
        _saucer(brush.moved(cup + 5.6j))
        _cup(brush.moved(cup + 5.6j), min(1.0, max(0.0, full)))
    at = 3.6 if left else 7.4
    if tilt > 0.7:
        _stream(brush.moved(at + 2.7j), 2.0, 14 * t, _TEA)
    _teapot(brush.moved(at + 2.9 + 1j * (3.5 - 1.2 * tilt), -0.6 * tilt))


def _sweeten(brush: _Brush, t: float) -> None:
    _room(brush, "#f7d98a", "#c98c3c")
    brush.oval(12.4 + 6.2j, 1.9, 0.5, "#5b8fb9")
    left = 3 - int(min(t, 0.55) / 0.55 * 3)
    _saucer(brush.moved(6.5 + 5.6j))
    for k in range(1 + left):
        brush.box(11.4 + 0.75 * (k % 3) + 1j * (5.5 - 0.65 * (k // 3)), 0.62 + 0.62j, _WHITE)
    if t < 0.55:
        drop = t / 0.55 * 3 % 1
        fall = 1.2 + 4.2 * drop * drop
        if drop < 0.85:
            brush.moved(6.5 + 1j * fall, 5 * drop).box(-0.31 - 0.31j, 0.62 + 0.62j, _WHITE)
        _cup(brush.moved(6.5 + 5.6j), 1)
        if drop > 0.8:
            for k in (-2, -1, 1, 2):
                brush.oval(6.5 + 0.4 * k + 1j * (4.5 - 3 * (drop - 0.8)), 0.1, 0.1, _TEA)
        return
    stir = 2 * math.pi * 6 * t
    _spoon(brush.moved(6.5 + 0.5 * math.cos(stir) + 1j * (4.7 + 0.1 * math.sin(stir)), -0.9))
    _cup(brush.moved(6.5 + 5.6j), 1)


def _enjoy(brush: _Brush, t: float) -> None:
    _room(brush, "#e88d67", "#7c3f4e")
    brush.oval(11.6 + 1j * (4.2 + 1.5 * t), 2.0, 2.0, "#fbd87f")
    brush.shape([7 + 6.6j, 10.5 + 4.4j, 13 + 6j, 14.5 + 5j, 18 + 6.6j], "#a9536a")
    brush.box(-10 + _TABLE * 1j, 40 + 20j, "#7c3f4e")
    brush.oval(10.4 + 7.6j, 1.6, 0.4, _WHITE)
    bites = int(3 * t)
    brush.oval(10.4 + 7.1j, 0.95, 0.72, "#c98c4b")
    for k in range(5 - bites):
        brush.oval(10.0 + 0.25 * k + 1j * (6.9 + 0.3 * (k % 2)), 0.1, 0.1, _INK)
    for k in range(bites):
        brush.oval(11.3 - 0.35 * k + 6.7j, 0.36, 0.36, "#7c3f4e")
    sip = _swing(3 * t)
    _saucer(brush.moved(5 + 6j))
    cup = brush.moved(5 + 1j * (6 - 2.2 * sip), -0.3 * sip)
    _cup(cup, 1 - 0.6 * t)
    _steam(cup.moved(-1.2j), 14 * t, "#f6c3a4")


_Step = Callable[[_Brush, float], None]
_Camera = tuple[complex, float]  # centre of the view, zoom

_FULL: _Camera = (8 + 4.5j, 1.0)

# Seconds and camera of each shot; `t` runs on through the shots of a step.
_STEPS: list[tuple[_Step, list[tuple[float, _Camera]]]] = [
    (_fill_the_kettle, [(5, _FULL), (4, (8 + 2.6j, 2.1)), (5, (8 + 5j, 1.5))]),
    (_boil_the_water, [(6, _FULL), (4, (8 + 6j, 2.4)), (5, (6.2 + 3j, 1.9))]),
    (_spoon_the_leaves, [(4, _FULL), (3, (5 + 4.2j, 2.0)), (4, (11 + 4.2j, 1.9)), (4, _FULL)]),
    (_pour_the_water, [(6, _FULL), (4, (4.6 + 4.2j, 2.1)), (6, (7 + 3.8j, 1.4))]),
    (_let_it_stand, [(5, _FULL), (5, (11.5 + 2.6j, 2.2)), (4, (6.4 + 5j, 1.8))]),
    (_pour_the_tea, [(6, _FULL), (4, (7.4 + 5j, 2.0)), (5, (7 + 4.2j, 1.3))]),
    (_sweeten, [(4, _FULL), (4, (6.5 + 4.8j, 2.2)), (3, (8.5 + 4.6j, 1.3)), (5, (6.8 + 4.4j, 2))]),
    (_enjoy, [(6, _FULL), (4, (10.4 + 6.6j, 2.3)), (5, (6 + 4.6j, 1.5))]),
]  # fmt: skip


@dataclass(frozen=True)
class _Shot:
    paint: _Step
    camera: _Camera
    first: int  # frame
    end: int  # frame
    t_first: float
    t_end: float

    def draw(self, frame: int) -> NDArray[np.uint8]:
        passed = (frame - self.first) / (self.end - self.first)
        centre, near = self.camera
        near *= 1 + 0.05 * passed
        image = Image.new("RGB", (SIZE[0] * _SMOOTH, SIZE[1] * _SMOOTH))
        middle = complex(image.width, image.height) / 2
        scale = near * _UNIT
        brush = _Brush(ImageDraw.Draw(image), scale, middle - centre * scale)
        self.paint(brush, self.t_first + (self.t_end - self.t_first) * passed)
        return np.asarray(image.reduce(_SMOOTH))


def _shots(seconds: float) -> list[_Shot]:
    whole = sum(length for _, shots in _STEPS for length, _ in shots)
    frames = FRAME_RATE * seconds / whole
    result, begun = [], 0.0
    for paint, shots in _STEPS:
        length_of_step = sum(length for length, _ in shots)
        passed = 0.0
        for length, camera in shots:
            first, end = round((begun + passed) * frames), round((begun + passed + length) * frames)
            t_first, t_end = passed / length_of_step, (passed + length) / length_of_step
            result.append(_Shot(paint, camera, first, end, t_first, t_end))
            passed += length
        begun += length_of_step
    return result


def draw_demo_video(path: Path, seconds: float = 120) -> list[float]:
    """Draw a small instructional video: how tea is made.

    H.264 if FFmpeg has libx264, else MPEG-4 Part 2. The same machine draws the same bytes.

    Args:
        path: the MP4 file to write.
        seconds: length of the video, at least 5.

    Returns:
        The times of the hard cuts, in seconds.

    Raises:
        ValueError: `seconds` is too small.
    """
    if not seconds >= 5:
        raise ValueError(f"The demo video must last at least 5 seconds, not {seconds}.")
    shots = _shots(seconds)
    with av.open(str(path), "w", format="mp4") as container:
        stream = _add_stream(container)
        for shot in shots:
            for frame in range(shot.first, shot.end):
                if (frame - shot.first) % _HOLD == 0:
                    picture = _video_frame(shot.draw(frame))
                picture.pts, picture.time_base = frame, Fraction(1, FRAME_RATE)
                container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return [shot.first / FRAME_RATE for shot in shots[1:]]


def _video_frame(pixels: NDArray[np.uint8]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")


def _add_stream(container: av.container.OutputContainer) -> av.VideoStream:
    h264 = "libx264" in av.codecs_available
    if h264:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.options = {"preset": "veryfast", "crf": "20"}
    else:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE)
        stream.bit_rate = 1_500_000
    stream.width, stream.height = SIZE
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1  # with more, the bytes would depend on the machine
    return stream
