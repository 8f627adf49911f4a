from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from action100m.video.clock import Clock

TICK = Fraction(1, 90000)


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=50))
def test_times_start_at_zero_and_always_advance(timestamps: list[int | None]) -> None:
    clock = Clock(TICK, 1 / 30, math.inf)
    times = [clock.tick(timestamp) for timestamp in timestamps]
    assert times[0] == 0
    assert all(later > earlier for earlier, later in pairwise(times))
    assert clock.end(None) > times[-1]


@given(st.lists(st.integers(1, 10**6), max_size=50), st.integers(-(2**40), 2**40))
def test_good_timestamps_are_kept_exactly(gaps: list[int], first: int) -> None:
    clock = Clock(TICK, 1 / 30, math.inf)
    now = first
    assert clock.tick(now) == 0
    for gap in gaps:
        now += gap
        assert clock.tick(now) == float((now - first) * TICK)
    assert clock.repaired == 0


def test_after_a_reset_time_advances_by_the_nominal_interval() -> None:
    clock = Clock(TICK, 0.5, 10.0)
    times = [clock.tick(timestamp) for timestamp in (0, 45000, 0, 45000, 90000)]
    assert times == [0, 0.5, 1, 1.5, 2]
    assert clock.repaired == 3


def test_after_a_leap_time_advances_by_the_nominal_interval() -> None:
    clock = Clock(TICK, 0.5, 10.0)
    times = [clock.tick(timestamp) for timestamp in (0, 90000, 990000, 9000000, 9045000)]
    assert times == [0, 1, 11, 11.5, 12]
    assert clock.repaired == 1


def test_a_wrong_timestamp_does_not_affect_later_ones() -> None:
    """One wrong timestamp, a leap ahead and back again, does not affect the others."""
    clock = Clock(TICK, 0.5, 10.0)
    second = 90_000
    ticks = [0, second, 5000 * second, 5003 * second, 4 * second, 5 * second]
    assert [clock.tick(timestamp) for timestamp in ticks] == [0, 1, 1.5, 4.5, 5, 6]
    assert clock.repaired == 2


def test_missing_timestamps_at_the_start_are_filled_in() -> None:
    clock = Clock(TICK, 0.5, 10.0)
    times = [clock.tick(timestamp) for timestamp in (None, None, 900000, 990000)]
    assert times == [0, 0.5, 1, 2]
    assert clock.repaired == 3


def test_the_last_gap_replaces_an_unknown_rate() -> None:
    clock = Clock(TICK, None, math.inf)
    for timestamp in (0, 90000):
        clock.tick(timestamp)
    assert clock.end(None) == 2
    assert clock.end(45000) == 1.5
