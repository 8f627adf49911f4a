import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from action100m.dataset.actions import is_action, normalised


def one(text: str | None) -> str | None:
    spelled: str | None = normalised(pa.array([text], pa.string()))[0].as_py()
    return spelled


@pytest.mark.parametrize(
    "spelling",
    [
        "Stir the sauce",
        "stir the sauce.",
        '  "Stir\u00a0\u2003the\n sauce!"',
        "\uff33tir the sauce;",
    ],
)
def test_spellings_of_one_action_are_normalised_to_one(spelling: str) -> None:
    assert one(spelling) == "stir the sauce"


@pytest.mark.parametrize("spelling", ["Don't stir", "Weld the T-joint", "Set to 1.5 bar", "nab"])
def test_words_are_only_lowercased(spelling: str) -> None:
    assert one(spelling) == spelling.lower()


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        "",
        " ",
        "...",
        "N/A",
        "n/a.",
        '"N/A"',
        "\uff2e\uff0f\uff21",
        "N / A",
        "NA",
        "n.a.",
        "Not applicable",
    ],
)
def test_placeholders_are_not_actions(nothing: str | None) -> None:
    assert one(nothing) is None
    assert not is_action(pa.array([nothing], pa.string()))[0]


def test_normalising_keeps_the_order_of_strings() -> None:
    strings = pa.array(["Cut", None, "cut.", "N/A", "Peel"])
    assert normalised(strings).to_pylist() == ["cut", None, "cut", None, "peel"]
    assert is_action(strings).tolist() == [True, False, True, False, True]


def test_slices_and_empty_arrays_are_normalised() -> None:
    assert normalised(pa.array(["a b", "C", None])[1:]).to_pylist() == ["c", None]
    assert normalised(pa.array([], pa.string())).type == pa.string()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
@example("İ ")
@example("\u0345\u0308A")
def test_normalising_again_changes_nothing(text: str) -> None:
    once = one(text)
    assert once is None or one(once) == once


@given(st.text(st.characters(categories=["L", "N", "Zs", "P"]), max_size=12))
def test_case_width_and_white_space_make_no_difference(text: str) -> None:
    assert one(f" {unicodedata.normalize('NFKC', text)}\t") == one(text)
