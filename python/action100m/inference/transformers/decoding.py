"""How the next token is chosen: drawn with a seed, by a grammar, or not at all any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from action100m.inference.engine import Sampling


class Drawn(LogitsProcessor):
    """Draws each row's token with the row's own temperature and generator.

    So a seed gives the same answer whoever else is in the batch. The draw is told to the library
    as the only likely token.
    """

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        self._samplings = samplings
        self._generators = [torch.Generator().manual_seed(s.seed) for s in samplings]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, (sampling, generator) in enumerate(
            zip(self._samplings, self._generators, strict=True)
        ):
            if sampling.temperature > 0:
                likely = torch.softmax(scores[row].float().cpu() / sampling.temperature, -1)
                token = torch.multinomial(likely, 1, generator=generator).item()
                scores[row] = -torch.inf
                scores[row, token] = 0.0
        return scores


class Following(LogitsProcessor):
    """Allows only tokens that keep to each row's JSON schema."""

    def __init__(
        self,
        tokenizer: Any,
        schemas: Sequence[Mapping[str, Any] | None],
        prompt_length: int,
        ends: frozenset[int],
    ) -> None:
        """Compile the schemas.

        Raises:
            ImportError: llguidance is not installed.
            ValueError: it knows no such schema.
        """
        try:
            import llguidance.hf
            import llguidance.torch
        except ImportError as error:
            raise ImportError(
                "Answers by a JSON schema need llguidance: pip install 'action100m[transformers]'."
            ) from error
        self._masks = llguidance.torch
        self._prompt_length = prompt_length
        self._ends = ends
        guide = llguidance.hf.from_tokenizer(tokenizer, eos_token=sorted(ends))
        self._matchers = [
            llguidance.LLMatcher(
                guide,
                llguidance.LLMatcher.grammar_from_json_schema(
                    json.dumps(dict(schema or {})), overrides={"whitespace_flexible": False}
                ),
            )
            for schema in schemas
        ]
        for matcher in self._matchers:
            if matcher.is_error():
                raise ValueError(f"The JSON schema cannot be followed: {matcher.get_error()}.")

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        count, vocabulary = scores.shape
        mask = self._masks.allocate_token_bitmask(count, vocabulary)
        for row, matcher in enumerate(self._matchers):
            if input_ids.shape[1] > self._prompt_length and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_stopped():
                mask[row] = 0
                for end in self._ends:
                    mask[row, end // 32] |= 1 << (end % 32) if end % 32 < 31 else -(1 << 31)
            else:
                self._masks.fill_next_token_bitmask(matcher, mask, row)
        self._masks.apply_token_bitmask_inplace(scores, mask.to(scores.device))
        return scores


class Ended(StoppingCriteria):
    """Ends the rows that nobody waits for."""

    def __init__(self, given_up: Callable[[int], bool]) -> None:
        self._given_up = given_up

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        rows = [self._given_up(row) for row in range(len(input_ids))]
        return torch.tensor(rows, device=input_ids.device)
