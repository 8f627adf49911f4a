"""Keeps answers to a JSON schema, token by token, with llguidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from action100m.inference.transformers.loading import Loaded

# As Python writes JSON. Free whitespace would let a model write blanks until its limit.
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def check_installed() -> None:
    """Look whether schemas can be kept.

    Raises:
        ImportError: they cannot.
    """
    try:
        import llguidance  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Answers that follow a schema need llguidance, which is not installed: "
            "pip install 'action100m[transformers]'."
        ) from error


class Grammars:
    """Makes a matcher for each request that has a schema."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def matcher(self, schema: Mapping[str, Any]) -> Any:
        """A matcher that has seen nothing yet.

        Raises:
            ValueError: the schema is wrong, or says what llguidance cannot enforce.
        """
        from llguidance import LLMatcher

        grammar = LLMatcher.grammar_from_json_schema(dict(schema), overrides=_LAYOUT)
        matcher = LLMatcher(self._tokens, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(f"The schema cannot be enforced: {matcher.get_error()}")
        return matcher

    @cached_property
    def _tokens(self) -> Any:
        from llguidance.hf import from_tokenizer

        tokenizer = self._loaded.tokenizer
        words = max(len(tokenizer), self._loaded.model.config.get_text_config().vocab_size)
        return from_tokenizer(tokenizer, n_vocab=words, eos_token=list(self._loaded.ends))


class KeepSchemas:
    """A logits processor: of each row, only tokens that its schema allows next."""

    def __init__(self, matchers: Sequence[Any | None], prompt_length: int) -> None:
        """`matchers`: one a row, None for a row without a schema."""
        self._matchers = [(row, m) for row, m in enumerate(matchers) if m is not None]
        self._prompt_length = prompt_length

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
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
        raise RuntimeError(f"The schema could not be kept: {matcher.get_error()}")
    return bool(matcher.stop_reason() == "EndOfSentence")


def _allowed(matcher: Any, words: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    return np.unpackbits(bits, bitorder="little", count=words).astype(bool)
