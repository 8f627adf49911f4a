"""Stage 3: from captions to structured actions, which are drafted and refined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from action100m.aggregation.budget import NoRoomError
from action100m.aggregation.prompts import CORRECT, INSTRUCTIONS, REFINE, Captioned, write_prompts
from action100m.aggregation.refine import Conversation
from action100m.aggregation.schedule import Schedule
from action100m.config import AggregationConfig
from action100m.errors import ConfigError, VideoError
from action100m.inference import Feed, identity, open_engine
from action100m.inference.answers import Answer, Journal, to_table
from action100m.inference.asking import Asking
from action100m.schema import HUNDREDTHS, MIN_ANNOTATED, to_hundredths
from action100m.tree import Tree
from action100m.video import Progress

_VERSION = 3  # of everything here that determines the contents of a part
_LEAST_PROMPT = 1024  # tokens; the instructions alone have about 300
_OF_PROMPTS = {"context_length", "tokenizer"}
_TEMPLATE_TOKENS = 256  # that a model's chat template adds to the conversation
_CORRECTION_TOKENS = 1024  # of an answer that is shown back, and of the error in it
_ANSWER_TOKENS = 512  # of an answer without its reasoning, as part of later requests


class AnnotationsMissingError(VideoError):
    """Too many annotations of a video are missing."""


def annotated_nodes(tree: Tree) -> list[int]:
    """Return the rows to annotate: inner segments of at least 4 s, with times as stored."""
    length = to_hundredths(tree.end) - to_hundredths(tree.start)
    long = length >= MIN_ANNOTATED * HUNDREDTHS
    nodes: list[int] = np.flatnonzero(~tree.is_leaf & long).tolist()
    return nodes


def aggregate_identity(config: AggregationConfig) -> dict[str, Any]:
    """Return what determines the annotations, as plain values; a model must be configured.

    Raises:
        ConfigError: a checkpoint is not available.
    """
    assert config.model is not None
    asked = {"rounds", "max_tokens", "prompt_tokens", "temperature", "seed", "reasoning_effort"}
    return {
        "version": _VERSION,
        **identity(config.model),
        # These determine how much a prompt contains.
        **config.model.model_dump(include=_OF_PROMPTS, exclude_none=True),
        **config.model_dump(include=asked, exclude_none=True),
        "prompts": [INSTRUCTIONS, REFINE, CORRECT],
    }


@contextmanager
def open_aggregator(config: AggregationConfig) -> Iterator[VideoAggregator]:
    """Load the configured model.

    Raises:
        ConfigError: the model, its tokenizer, or something it needs is not available.
    """
    assert config.model is not None
    with open_engine(config.model) as engine:
        yield VideoAggregator(config, Feed(engine))


class VideoAggregator:
    """Annotates videos; any number of threads may share one."""

    def __init__(self, config: AggregationConfig, feed: Feed) -> None:
        """Determine how long a prompt may be.

        Raises:
            ConfigError: answers and rounds leave no room for a prompt in the model's context.
        """
        self._config = config
        self._feed = feed
        self._limit = _prompt_limit(config, feed.engine.context_length)
        # Leave out what the messages already contain and what affects no single answer.
        excluded = {"version", "rounds", "prompt_tokens", "prompts", *_OF_PROMPTS}
        whole = aggregate_identity(config)
        self._identity = {name: value for name, value in whole.items() if name not in excluded}

    @property
    def capacity(self) -> int:
        """Number of unanswered requests that keeps the model busy."""
        return self._feed.engine.capacity

    def aggregate(
        self,
        group: str,
        video: Captioned,
        progress: Progress,
        journal: Path,
        known: Mapping[str, Answer],
    ) -> pa.Table:
        """Annotate one video's segments.

        Args:
            group: identifies the video to the engine: its requests share a prefix.
            video: its tree and captions.
            progress: called regularly; may raise to abort.
            journal: folder of this video, where answers are kept until its part exists.
            known: answers from other configurations, by key.

        Returns:
            Rows of `inference.answers.SCHEMA`: one per segment to annotate for the field "gpt",
            whose text is the annotation as JSON; one for "left_out" if its prompt leaves something
            out; and one per request for "gpt.<round>", whose text is kept only if the
            configuration asks for it.

        Raises:
            VideoError: too many annotations are missing.
            EngineStoppedError: the model can no longer answer.
        """
        limit = self._limit
        try:
            prompts = write_prompts(
                video, annotated_nodes(video.tree), self._feed.engine.count_tokens, limit
            )
        except NoRoomError as error:
            raise VideoError(f"{error} {_how_to_raise(limit, self._config)}") from error
        end = float(video.tree.end[0])
        talks = [Conversation(prompt, self._config, self._identity, group) for prompt in prompts]
        with Journal(journal) as kept, Asking(kept, known, self._config.attempts) as asking:
            self._talk(talks, asking, lambda share: progress(end * share, end))
        progress(end, end)
        self._check_share(talks)
        return to_table(
            row for talk in talks for row in talk.rows(keep_rounds=self._config.keep_rounds)
        )

    def _talk(
        self, talks: list[Conversation], asking: Asking, tell: Callable[[float], None]
    ) -> None:
        """Continue all conversations until they are over; known answers are not asked for again.

        Args:
            talks: conversations of one video.
            asking: asks the questions.
            tell: called regularly with the share of the conversations that are over.
        """
        schedule, waiting, over = Schedule(talks), dict[str, Conversation](), 0

        def check() -> None:
            tell(over / len(talks))

        def take(talk: Conversation, answer: Answer) -> None:
            nonlocal over
            schedule.take(talk, answer)
            over += talk.over

        while (talk := schedule.pop()) is not None or waiting:
            if talk is None:
                asking.wait(check)
            else:
                request = talk.next_request()
                if (answer := asking.answers.get(request.id)) is not None:
                    take(talk, answer)
                else:
                    waiting[request.id] = talk
                    asking.ask(request.id, self._feed, request, check)
            for key in asking.take_answered():
                take(waiting.pop(key), asking.answers[key])

    def _check_share(self, talks: list[Conversation]) -> None:
        missing = [talk for talk in talks if talk.annotation is None or talk.unanswered]
        if len(missing) > self._config.max_failed * len(talks):
            raise AnnotationsMissingError(
                f"{len(missing)} of {len(talks)} annotations are missing or unrefined (more than "
                f"aggregation.max_failed = {self._config.max_failed:g} of them allows); one "
                f"because: {missing[0].reason.rstrip('.')}. Correct the cause and run again, or "
                "raise that limit."
            )


def _how_to_raise(limit: int, config: AggregationConfig) -> str:
    if limit == config.prompt_tokens:
        return f"Raise aggregation.prompt_tokens (now {limit})."
    return (
        f"The model's context and its answers limit a prompt to {limit} tokens: lower "
        f"aggregation.max_tokens (now {config.max_tokens}) or aggregation.rounds."
    )


def _prompt_limit(config: AggregationConfig, context: int | None) -> int:
    """Return the tokens that are left for the first prompt if all rounds follow it."""
    if context is None:
        return config.prompt_tokens
    answers = config.rounds * 2 * _ANSWER_TOKENS + config.max_tokens + _TEMPLATE_TOKENS
    answers += _CORRECTION_TOKENS if config.attempts > 1 else 0
    if context - answers < _LEAST_PROMPT:
        raise ConfigError(
            f"The model's context has {context} tokens, and {config.rounds} rounds of answers "
            f"may take {answers} of them: lower aggregation.max_tokens (now "
            f"{config.max_tokens}) or aggregation.rounds."
        )
    return min(config.prompt_tokens, context - answers)
