from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action100m.aggregation.annotation import UnusableAnswerError, read_annotation

GOOD = {
    "summary": {"brief": "A man saws.", "detailed": "A man saws a long plank on a bench."},
    "action": {"brief": "saw wood", "detailed": "Saw the plank in two.", "actor": "a man"},
}


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
    ],
    ids=["plain", "fence", "words", "extra", "nested", "list", "spaces", "raw newline"],
)
def test_what_can_be_understood_is(answer: str) -> None:
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
    ],
    ids=range(11),
)
def test_what_cannot_is_told(answer: str, error: str) -> None:
    with pytest.raises(UnusableAnswerError, match=error):
        read_annotation(answer)


@pytest.mark.parametrize(
    "nothing", ["N/A", "n/a", "NA", "n.a.", " N / A ", "None", "Not applicable."]
)
def test_nothing_is_spelled_as_published(nothing: str) -> None:
    action = read_annotation(changed(action_brief=nothing)).action
    assert (action.brief, action.detailed, action.actor) == ("N/A", "N/A", "a man")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UnusableAnswerError):
        read_annotation(text)


@given(st.text(min_size=1, max_size=100))
def test_what_is_read_fits_on_one_line(text: str) -> None:
    try:
        brief = read_annotation(changed(summary_brief=text)).summary.brief
    except UnusableAnswerError:
        return
    assert len(brief.splitlines()) == 1
    brief.encode()
