"""One segment's conversation: a draft, rounds of Self-Refine, and corrections if needed.

Self-Refine after Madaan et al., 2023 (arXiv 2303.17651): the model reviews its own answer. A round
continues the conversation instead of repeating everything, so its prefix is in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from action100m.aggregation.annotation import (
    JSON_SCHEMA,
    Annotation,
    UnusableAnswerError,
    read_annotation,
)
from action100m.aggregation.part import ANNOTATION, LEFT_OUT
from action100m.aggregation.prompts import CORRECT, REFINE, Prompt
from action100m.config import AggregationConfig
from action100m.inference import Message, Outcome, Request, Role, Sampling, Text, Usage
from action100m.inference.answers import Answer, question_key

_SHOWN_BACK = 2000  # characters of an unusable answer that are shown back


class Conversation:
    """Creates requests, takes their answers, and keeps the last valid annotation.

    Attributes:
        prompt: the prompt that it begins with.
        over: whether nothing is left to ask.
        annotation: the last valid annotation; None if there is none.
        reason: why there is none, or why a later round was given up; "" otherwise.
        unanswered: whether the last request got no answer, but may get one if repeated.
    """

    def __init__(
        self, prompt: Prompt, config: AggregationConfig, identity: Mapping[str, Any], group: str
    ) -> None:
        self.prompt = prompt
        self.over = False
        self.annotation: Annotation | None = None
        self.reason = ""
        self.unanswered = False
        self._config, self._identity, self._group = config, identity, group
        self._said: list[Message] = []  # empty unless it is being asked: many conversations wait
        self._corrections: list[Message] = []
        self._round = 0
        self._attempt = 0
        self._asked: list[tuple[int, Answer]] = []

    def next_request(self) -> Request:
        """Return the next request; its id is a hash of everything that determines the answer."""
        if not self._said:
            prompt = self.prompt
            self._said = [_message("system", prompt.system), _message("user", prompt.text)]
        messages = (*self._said, *self._corrections)
        config = self._config
        sampling = Sampling(
            config.max_tokens, config.temperature, config.seed, config.reasoning_effort
        )
        texts = [
            (message.role, part.text)
            for message in messages
            for part in message.parts
            if isinstance(part, Text)  # all parts are
        ]
        key = question_key({"messages": texts, **self._identity})
        return Request(key, messages, sampling, JSON_SCHEMA, self._group)

    def take(self, answer: Answer) -> None:
        """Take the answer to the request."""
        self._hear(answer)
        if self.over:
            self._said, self._corrections = [], []

    def _hear(self, answer: Answer) -> None:
        self._asked.append((self._round, answer))
        self.unanswered = answer.outcome is Outcome.FAILED and not answer.lasting
        if answer.outcome is not Outcome.COMPLETE or answer.text is None:
            self._reject(answer.text or "", answer.reason)
            return
        try:
            self.annotation = read_annotation(answer.text)
        except UnusableAnswerError as error:
            self._reject(answer.text, str(error))
            return
        self._said.append(_message("assistant", answer.text))
        self._corrections, self._attempt, self.reason = [], 0, ""
        self._round += 1
        self.over = self._round > self._config.rounds
        if not self.over:
            self._said.append(_message("user", REFINE))

    def rows(self, *, keep_rounds: bool) -> Iterator[tuple[str, int, Answer]]:
        """Yield the annotation, what was left out, and every request as (field, node, answer)."""
        node, left_out = self.prompt.node, self.prompt.left_out
        text = None if self.annotation is None else self.annotation.model_dump_json()
        outcome = Outcome.FAILED if text is None else Outcome.COMPLETE
        yield ANNOTATION, node, Answer("", outcome, text, self.reason, Usage())
        if left_out:
            yield LEFT_OUT, node, Answer("", Outcome.COMPLETE, left_out, "", Usage())
        for number, answer in self._asked:
            kept = answer if keep_rounds else replace(answer, text=None)
            yield f"{ANNOTATION}.{number}", node, kept

    def _reject(self, text: str, error: str) -> None:
        """Show the model what is wrong, unless no attempts are left."""
        self._attempt += 1
        self.reason = error
        self.over = self._attempt >= self._config.attempts or not text
        if not self.over:
            self._corrections = [
                _message("assistant", text[:_SHOWN_BACK]),
                _message("user", CORRECT.format(error=error)),
            ]


def _message(role: Role, text: str) -> Message:
    return Message(role, (Text(text),))
