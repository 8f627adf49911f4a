"""Constrain answers to a JSON schema, token by token, with llguidance."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from action100m.inference.transformers.loading import Loaded

# JSON as Python writes it. Flexible whitespace would let a model write spaces until its limit.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_THOUGHT = 0.5  # share of an answer's tokens that reasoning may take


class Grammars:
    """Creates a matcher for each request that has a schema."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def matcher(self, schema: Mapping[str, Any], opening: str, room: int) -> Any:
        """Create a matcher that has seen no tokens yet.

        A model may write its reasoning before the answer as free text: the schema applies from the
        beginning of the answer. Reasoning is limited, so that some room is left for the answer.

        Args:
            schema: JSON schema of the answer.
            opening: beginning of the answer that the prompt contains.
            room: maximum number of tokens of reasoning and answer together.

        Raises:
            ValueError: the schema is invalid, or llguidance cannot enforce it.
        """
        from llguidance import LLMatcher

        grammar = f"""\
start: {self._shape(opening)}
thought[max_tokens={int(room * _MOST_THOUGHT)}]: /(?s:.*)/
answer: %json {json.dumps({**schema, "x-guidance": _LAYOUT})}
"""
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(f"The schema cannot be enforced: {matcher.get_error()}")
        return matcher

    def _shape(self, opening: str) -> str:
        """Return the grammar of what the model writes, with its reasoning and its answer."""
        template = self._loaded.template
        if template.harmony:
            channel, message = self._token("<|channel|>"), self._token("<|message|>")
            turn = f'{self._token("<|end|>")} {self._token("<|start|>")} "assistant"'
            thought = f'{channel} "analysis" {message} thought {turn}'
            return f'({thought})? {channel} "final" {message} answer'
        if not template.thinks:
            return "answer"
        thought = f'thought {self._token("</think>")} "\\n\\n"'
        if opening:
            return f"{thought} answer"
        return f"({self._token('<think>')} {thought})? answer"

    def _token(self, name: str) -> str:
        """Return a control token for a grammar, by its number, as text may not encode to it."""
        number = self._loaded.tokenizer.get_vocab().get(name)
        return json.dumps(name) if number is None else f"<[{number}]>"

    @cached_property
    def _tokens(self) -> Any:
        from llguidance.hf import from_tokenizer

        tokenizer = self._loaded.tokenizer
        words = max(len(tokenizer), self._loaded.model.config.get_text_config().vocab_size)
        return from_tokenizer(tokenizer, n_vocab=words, eos_token=list(self._loaded.ends))


class KeepSchemas:
    """A logits processor that keeps of each row only tokens that its grammar allows next."""

    def __init__(
        self, matchers: Sequence[Any | None], prompt_length: int, over: Container[int]
    ) -> None:
        """Begin after the prompts.

        Args:
            matchers: one per row, None for a row without a schema.
            prompt_length: number of tokens of the padded prompts.
            over: rows that end before their answers do; the caller adds to it.
        """
        self._over = over
        self._matchers = [(row, m) for row, m in enumerate(matchers) if m is not None]
        self._prompt_length = prompt_length

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._matchers = [(row, m) for row, m in self._matchers if row not in self._over]
        if ids.shape[1] > self._prompt_length:
            drawn = ids[:, -1].tolist()
            for row, matcher in self._matchers:
                if not matcher.is_stopped():
                    matcher.consume_token(drawn[row])
        self._matchers = [(row, m) for row, m in self._matchers if not _has_ended(m)]
        if self._matchers:
            rows = [row for row, _ in self._matchers]
            allowed = np.stack([_allowed(m, scores.shape[1]) for _, m in self._matchers])
            forbidden = torch.from_numpy(~allowed).to(scores.device)
            scores[rows] = scores[rows].masked_fill(forbidden, -torch.inf)
        return scores


def _has_ended(matcher: Any) -> bool:
    if matcher.is_error():
        raise RuntimeError(f"The schema could not be enforced: {matcher.get_error()}")
    return bool(matcher.stop_reason() == "EndOfSentence")


def _allowed(matcher: Any, words: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    return np.unpackbits(bits, bitorder="little", count=words).astype(bool)
