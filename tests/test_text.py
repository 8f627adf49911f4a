from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.text import clean, clock, counted, harmless, lasting


@given(st.text(alphabet=st.characters(exclude_categories=())), st.integers(1, 50))
def test_any_text_becomes_one_short_line_that_can_be_encoded(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert all(unicodedata.bidirectional(c) not in ("RLO", "LRO", "RLE", "LRE") for c in shown)


def test_ordinary_text_stays_as_it_is() -> None:
    text = "Как сложить 紙の船 — “paper” & <boat>"
    assert clean(text, 100) == text


def test_a_terminal_shows_all_scripts_and_obeys_nothing() -> None:
    shown = "می\u200cکنم क्\u200dष 👩\u200d🍳 un\u00a0deux 紙\u3000船"
    assert harmless(shown) == shown
    assert harmless("\x1b[2J\u202e\u2028\udcff") == r"\x1b[2J\u202e\u2028\udcff"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1:00"), (3725, "1:02:05")],
)
def test_durations_read_naturally(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_clock_and_counts() -> None:
    assert [clock(0), clock(61), clock(3600)] == ["0:00", "1:01", "1:00:00"]
    assert [counted(1, "leaf"), counted(1204, "leaf"), counted(2, "video")] == [
        "1 leaf",
        "1,204 leaves",
        "2 videos",
    ]
