from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.aggregation.annotation import Annotation, UnusableAnswerError, read_annotation

GOOD = {
    "summary": {"brief": "A man saws.", "detailed": "A man saws a long plank on a bench."},
    "action": {"brief": "saw wood", "detailed": "Saw the plank in two.", "actor": "a man"},
}

OLD = {**GOOD, "summary": {"brief": "A man cuts.", "detailed": "A man cuts a plank."}}


def changed(**fields: object) -> str:
    value = json.loads(json.dumps(GOOD))
    for path, new in fields.items():
        table, _, name = path.partition("_")
        if new is ...:
            del value[table][name]
        elif name:
            value[table][name] = new
        else:
            value[table] = new
    return json.dumps(value)


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"Here it is:\n{json.dumps(GOOD)}\nI hope it helps!",
        json.dumps({**GOOD, "confidence": 0.9}),
        changed(summary=json.dumps(GOOD["summary"])),
        changed(summary=[GOOD["summary"]]),
        changed(summary_brief="  A man\n\tsaws. "),
        json.dumps(GOOD).replace("A man saws.", "A man\nsaws."),
        json.dumps(json.dumps(GOOD)),
        json.dumps({"answer": GOOD}),
        json.dumps({**GOOD, "before": OLD}),
        f"I kept the {{brief}} field.\n{json.dumps(GOOD)}",
        f"It was {json.dumps(OLD)}\nImproved:\n{json.dumps(GOOD)}\nI removed {{}} and {{x}}.",
    ],
    ids=[
        "plain",
        "fence",
        "words",
        "extra",
        "nested",
        "list",
        "spaces",
        "raw newline",
        "string",
        "wrapped",
        "extra object",
        "braces",
        "second",
    ],
)
def test_readable_answers_are_parsed(answer: str) -> None:
    assert read_annotation(answer).model_dump() == GOOD


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("", "no JSON object"),
        ("I cannot do that.", "no JSON object"),
        ('{"summary": {"brief": "A m', "not valid JSON"),
        ('{"summary": ' * 100_000, "not valid JSON"),
        (changed(action_actor=...), r"action\.actor: Field required"),
        (changed(action=None), "action: Input should be"),
        (changed(summary_brief=["a", "b"]), r"summary\.brief"),
        (changed(summary_brief=7), r"summary\.brief"),
        (changed(summary_brief="  "), "it is empty"),
        (changed(summary_brief="x" * 5000), "longer than 4000"),
        (changed(summary=[{}, {}]), "summary"),
        (json.dumps(GOOD)[:-3], "not valid JSON"),
        (f"The {{brief}} is short: {changed(action_actor=...)}", r"action\.actor: Field required"),
        ("{" * 100_000, "no JSON object"),
        ('{"' * 50_000, "not valid JSON"),
        ('{"summary": [' * 8_000, "not valid JSON"),
        ('{"a": ' * 500 + "[" + "1, " * 30_000, "not valid JSON"),
    ],
    ids=range(17),
)
def test_unusable_answers_raise_an_error(answer: str, error: str) -> None:
    with pytest.raises(UnusableAnswerError, match=error):
        read_annotation(answer)


@pytest.mark.parametrize(
    "nothing", ["N/A", "n/a", "NA", "n.a.", " N / A ", "None", "Not applicable."]
)
def test_a_missing_action_becomes_n_a(nothing: str) -> None:
    action = read_annotation(changed(action_brief=nothing)).action
    assert (action.brief, action.detailed, action.actor) == ("N/A", "N/A", "a man")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
PLACES = ["summary", "action", "action_actor", "action_brief", "summary_detailed"]


def assert_sound(annotation: Annotation) -> None:
    """Check the five texts of the published format, each on one line."""
    fields = annotation.model_dump()
    assert {name: set(texts) for name, texts in fields.items()} == {
        name: set(texts) for name, texts in GOOD.items()
    }
    for text in (text for texts in fields.values() for text in texts.values()):
        assert text == text.strip() != ""
        assert len(text.splitlines()) == 1
        text.encode()
    if fields["action"]["brief"] == "N/A":
        assert fields["action"]["detailed"] == "N/A"


@given(st.sampled_from(PLACES), JSON, st.dictionaries(st.text(max_size=9), JSON, max_size=3))
def test_any_field_value_gives_a_valid_annotation_or_an_error(
    place: str, value: object, more: dict[str, object]
) -> None:
    answer = json.dumps({**more, **json.loads(changed(**{place: value}))})
    with contextlib.suppress(UnusableAnswerError):
        assert_sound(read_annotation(answer))


@given(JSON, st.sampled_from(["{}", "```json\n{}\n```", "[{}]", "Sure: {} Bye."]))
def test_any_json_gives_a_valid_annotation_or_an_error(value: object, around: str) -> None:
    answer = around.replace("{}", json.dumps(value))
    with contextlib.suppress(UnusableAnswerError):
        assert_sound(read_annotation(answer))


@given(st.integers(0, 400), st.booleans())
def test_a_truncated_answer_is_refused(length: int, fenced: bool) -> None:
    whole = json.dumps(GOOD)
    cut = whole[: min(length, len(whole) - 1)]
    with pytest.raises(UnusableAnswerError):
        read_annotation(f"```json\n{cut}" if fenced else cut)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UnusableAnswerError):
        read_annotation(text)


@given(st.text(min_size=1, max_size=100))
def test_parsed_text_fits_on_one_line(text: str) -> None:
    try:
        brief = read_annotation(changed(summary_brief=text)).summary.brief
    except UnusableAnswerError:
        return
    assert len(brief.splitlines()) == 1
    brief.encode()
