"""Seconds from timestamps, made strictly increasing."""

from __future__ import annotations

import math
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

_DISCONTINUOUS = 0x200  # AVFMT_TS_DISCONT
_LONGEST_STEP = 10.0  # seconds; the ffmpeg program too takes more for a break


def longest_step(container: InputContainer) -> float:
    """Seconds from one frame to the next that timestamps may tell; more is a break in them.

    Recordings of broadcasts are joined without a thought for their timestamps. In other containers
    a frame may well be shown for hours.
    """
    return _LONGEST_STEP if container.format.flags & _DISCONTINUOUS else math.inf


class Clock:
    """Turns the timestamps of consecutive frames into seconds since the first frame.

    A timestamp that is missing, does not advance or leaps gives the previous time plus the nominal
    interval; after a leap times go on from there.

    Attributes:
        origin: seconds of the container's timeline at which the first frame stands.
        now: seconds of the latest frame.
        repaired: timestamps that were replaced.
    """

    def __init__(self, time_base: Fraction, interval: float | None, longest_step: float) -> None:
        """Start before the first frame.

        Args:
            time_base: seconds of one tick.
            interval: nominal seconds between two frames; None where the file does not say, then
                the latest gap counts.
            longest_step: seconds; a timestamp that is later or earlier by more leaps.
        """
        self._numerator, self._denominator = time_base.numerator, time_base.denominator
        self._nominal, self._longest_step = interval, longest_step
        self._gap: float | None = None
        self._first: int | None = None
        self._shift = 0.0  # seconds by which timestamps have leapt
        self._started = False
        self.now = 0.0
        self.repaired = 0

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream, interval: float | None) -> Clock:
        """A clock for the frames of a stream, `interval` as above."""
        base = stream.time_base or Fraction(1, 90000)
        return cls(base, interval, longest_step(container))

    @property
    def origin(self) -> float:
        return (self._first or 0) * self._numerator / self._denominator

    @property
    def interval(self) -> float:
        # FFmpeg too takes 25 frames a second for a stream that tells nothing at all.
        return self._nominal or self._gap or 0.04

    def tick(self, timestamp: int | None) -> float:
        """Seconds of the next frame."""
        if not self._started:
            self._started, self._first = True, timestamp
            self.repaired += timestamp is None
            return self.now
        told = self.at(timestamp)
        time = math.nan if told is None else told - self._shift
        if not 0 < time - self.now <= self._longest_step:
            self.repaired += 1
            step, time = time - self.now, self.now + self.interval
            if told is not None and abs(step) > self._longest_step:
                self._shift = told - time
            if self._first is None and timestamp is not None:
                self._first = timestamp - round(time * self._denominator / self._numerator)
        self._gap, self.now = time - self.now, time
        return time

    def end(self, duration: int | None) -> float:
        """Seconds where the latest frame ends, given its own duration in ticks (or none)."""
        if duration and duration > 0:
            return self.now + duration * self._numerator / self._denominator
        return self.now + self.interval

    def at(self, timestamp: int | None) -> float | None:
        """Seconds of a timestamp as it is; None before the first frame, or where there is none."""
        if timestamp is None or self._first is None:
            return None
        # Integers up to the one division: the nearest double of the exact quotient.
        return (timestamp - self._first) * self._numerator / self._denominator
