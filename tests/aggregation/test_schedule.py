from __future__ import annotations

import json
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from action100m.aggregation.prompts import Captioned, write_prompts
from action100m.aggregation.refine import Conversation
from action100m.aggregation.schedule import Schedule
from action100m.aggregation.stage import annotated_nodes
from action100m.config import AggregationConfig
from action100m.inference import Outcome, Usage
from action100m.inference.answers import Answer
from action100m.tree import Tree, cut, ward

MODEL = {"engine": "openai", "model": "m", "urls": ["http://localhost:1/v1"]}
FIELDS = {"brief": "It is seen.", "detailed": "It is seen again."}
GOOD = json.dumps({"summary": FIELDS, "action": {**FIELDS, "actor": "a man"}})


def talks_of(tree: Tree) -> list[Conversation]:
    said = [f"caption {node}" for node in range(len(tree))]
    video = Captioned(tree, said, said, [None] * len(tree))
    prompts = write_prompts(video, annotated_nodes(tree), lambda texts: [1] * len(texts), 10**6)
    config = AggregationConfig.model_validate({"model": MODEL, "rounds": 2, "attempts": 2})
    return [Conversation(prompt, config, {}, "v") for prompt in prompts]


@given(seconds=st.integers(8, 120), seed=st.integers(0, 99), luck=st.randoms())
def test_a_draft_waits_for_the_draft_its_prompt_begins_with(
    seconds: int, seed: int, luck: random.Random
) -> None:
    rows = np.random.default_rng(seed).standard_normal((seconds * 4, 8)).cumsum(0)
    tree = cut(ward(rows), np.arange(len(rows) + 1) / 4)
    talks = talks_of(tree)
    schedule = Schedule(talks)
    asked: list[Conversation] = []
    answered: set[int] = set()
    on_their_way: list[Conversation] = []
    while True:
        while (talk := schedule.pop()) is not None:
            asked.append(talk)
            on_their_way.append(talk)
            children = np.flatnonzero(tree.parent == talk.prompt.node).tolist()
            if children[0] in {other.prompt.node for other in talks}:
                assert children[0] in answered
            assert answered or len(asked) == 1
        if not on_their_way:
            break
        talk = on_their_way.pop(luck.randrange(len(on_their_way)))
        answered.add(talk.prompt.node)
        text = GOOD if luck.random() < 0.8 else "Sorry!"
        schedule.take(talk, Answer("", Outcome.COMPLETE, text, "", Usage()))
    assert answered == set(annotated_nodes(tree))
    assert all(talk.over for talk in talks)


def test_a_started_conversation_continues_before_another_starts() -> None:
    rows = np.random.default_rng(1).standard_normal((240, 8)).cumsum(0)
    schedule = Schedule(talks_of(cut(ward(rows), np.arange(241) / 4)))
    first = schedule.pop()
    assert first is not None
    assert schedule.pop() is None
    schedule.take(first, Answer("", Outcome.COMPLETE, GOOD, "", Usage()))
    assert schedule.pop() is first
    after = schedule.pop()
    assert after is not None
    assert after.prompt.after == first.prompt.node
