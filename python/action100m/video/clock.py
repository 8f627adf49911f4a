"""Seconds from timestamps, made strictly increasing."""

from __future__ import annotations

from fractions import Fraction


class Clock:
    """Turns the timestamps of consecutive frames into seconds since the first frame.

    A timestamp that is missing or does not advance gives the previous time plus the nominal
    interval.

    Attributes:
        origin: seconds of the container's timeline at which the first frame stands.
        now: seconds of the latest frame.
        repaired: timestamps that were replaced.
    """

    def __init__(self, time_base: Fraction, interval: float | None) -> None:
        """Start before the first frame.

        Args:
            time_base: seconds of one tick.
            interval: nominal seconds between two frames; None where the file does not say, then
                the latest gap counts.
        """
        self._numerator, self._denominator = time_base.numerator, time_base.denominator
        self._nominal = interval
        self._gap: float | None = None
        self._first: int | None = None
        self._started = False
        self.now = 0.0
        self.repaired = 0

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
        time = self.at(timestamp)
        if time is None or time <= self.now:
            self.repaired += 1
            time = self.now + self.interval
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
