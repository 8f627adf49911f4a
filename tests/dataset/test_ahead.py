"""Parts come one after the other, and no more of them are started than allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.dataset.ahead import read_ahead


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 4))
def test_rows_are_in_order_and_bounded(sizes: list[int], together: int) -> None:
    begun: list[int] = []

    def part(number: int) -> Iterator[tuple[int, int]]:
        begun.append(number)
        yield from ((number, item) for item in range(sizes[number]))

    found = []
    for number, item in read_ahead((part(number) for number in range(len(sizes))), together):
        assert len(begun) <= number + together
        found.append((number, item))
    assert found == [(number, item) for number, size in enumerate(sizes) for item in range(size)]


def test_errors_are_raised_in_order() -> None:
    def part(number: int) -> Iterator[int]:
        yield number
        if number == 1:
            raise OSError("torn")

    rows = read_ahead(map(part, range(4)), 3)
    assert [next(rows), next(rows)] == [0, 1]
    with pytest.raises(OSError, match="torn"):
        next(rows)


def test_reading_ahead_can_be_closed_early() -> None:
    rows = read_ahead((iter(range(1, 9)) for _ in range(100)), 3)
    assert next(rows) == 1
    rows.close()  # type: ignore[attr-defined]
