"""Convert timestamps to strictly increasing seconds."""

from __future__ import annotations

import math
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

_DISCONTINUOUS = 0x200  # AVFMT_TS_DISCONT
_LONGEST_STEP = 10.0  # seconds; the ffmpeg program also treats more as a discontinuity


def longest_step(container: InputContainer) -> float:
    """Return the longest plausible step between two frames, in seconds.

    A longer step is a discontinuity: broadcast recordings are often joined without adjusting their
    timestamps. In other containers a frame can be shown for hours, so the result is infinity.
    """
    return _LONGEST_STEP if container.format.flags & _DISCONTINUOUS else math.inf


def guesses_times(container: InputContainer, stream: VideoStream) -> bool:
    """Return whether FFmpeg guesses presentation times, in coded order, because there are none.

    AVI and ASF store the order of decoding only; FFmpeg restores the other one for some codecs.
    """
    context = stream.codec_context
    reorders = context.has_b_frames and context.codec.canonical_name in {"h264", "hevc"}
    return bool(reorders) and container.format.name in {"avi", "asf"}


class Clock:
    """Converts the timestamps of consecutive frames to seconds since the first frame.

    A timestamp that is missing, does not advance or leaps is replaced by the previous time plus the
    nominal interval; after a leap, times continue from there.

    Attributes:
        origin: time of the first frame on the container's timeline, in seconds.
        now: time of the latest frame, in seconds.
        repaired: number of timestamps that were replaced.
    """

    def __init__(self, time_base: Fraction, interval: float | None, longest_step: float) -> None:
        """Create a clock that has not seen a frame yet.

        Args:
            time_base: seconds per tick.
            interval: nominal seconds between two frames; if None, because the file does not say,
                the latest gap is used.
            longest_step: seconds; a timestamp that differs by more from the latest one is a leap.
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
        """Create a clock for the frames of a stream; `interval` is as in the constructor."""
        base = stream.time_base or Fraction(1, 90000)
        return cls(base, interval, longest_step(container))

    @property
    def origin(self) -> float:
        return (self._first or 0) * self._numerator / self._denominator

    @property
    def interval(self) -> float:
        # FFmpeg also assumes 25 frames per second for a stream that gives no rate.
        return self._nominal or self._gap or 0.04

    def tick(self, timestamp: int | None) -> float:
        """Return the time of the next frame in seconds."""
        if not self._started:
            self._started, self._first = True, timestamp
            self.repaired += timestamp is None
            return self.now
        reported = self.at(timestamp)
        time = math.nan if reported is None else reported - self._shift
        if not 0 < time - self.now <= self._longest_step:
            self.repaired += 1
            step, time = time - self.now, self.now + self.interval
            if reported is not None and abs(step) > self._longest_step:
                self._shift = reported - time
            if self._first is None and timestamp is not None:
                self._first = timestamp - round(time * self._denominator / self._numerator)
        self._gap, self.now = time - self.now, time
        return time

    def end(self, duration: int | None) -> float:
        """Return the second at which the latest frame ends, given its duration in ticks or None."""
        if duration and duration > 0:
            return self.now + duration * self._numerator / self._denominator
        return self.now + self.interval

    def at(self, timestamp: int | None) -> float | None:
        """Return a timestamp in seconds, unrepaired; None without a timestamp or a first frame."""
        if timestamp is None or self._first is None:
            return None
        # Integers until the only division, so the result is the double nearest to the quotient.
        return (timestamp - self._first) * self._numerator / self._denominator
