from __future__ import annotations

import pytest

from action100m.inference.reasoning import answer_in


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("  A man cuts wood.\n", "A man cuts wood."),
        ("<think>Let me see.</think>\n\nA man cuts wood.", "A man cuts wood."),
        ("Let me see.</think>A man.", "A man."),
        ("<think>Let me see", ""),
        ("1 < 2 and <b>bold</b>", "1 < 2 and <b>bold</b>"),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final"
            "<|message|>A man.<|return|>",
            "A man.",
        ),
        ('<|channel|>final <|constrain|>json<|message|>{"a": 1}', '{"a": 1}'),
        ("<|channel|>analysis<|message|>Still thinking", ""),
        ("", ""),
    ],
)
def test_reasoning_is_removed_from_the_answer(text: str, answer: str) -> None:
    assert answer_in(text) == answer
