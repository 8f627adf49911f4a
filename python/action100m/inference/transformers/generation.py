"""Answer a batch of prompts at once, each row as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from action100m.inference.engine import Sampling
from action100m.inference.transformers.loading import Loaded
from action100m.inference.transformers.prompts import Prompt
from action100m.inference.transformers.schema import KeepSchemas


@dataclass(frozen=True, eq=False)
class Row:
    """One request of a batch.

    Attributes:
        prompt: what the model reads.
        sampling: how tokens are sampled.
        matcher: a new matcher of `schema.Grammars`; None if any text is allowed.
        given_up: returns whether nobody waits for the answer any more; called at every token.
    """

    prompt: Prompt
    sampling: Sampling
    matcher: Any | None
    given_up: Callable[[], bool]


def generate(loaded: Loaded, rows: Sequence[Row]) -> list[list[int]]:
    """Return each row's new tokens; the last one is in `loaded.ends` if the model ended the answer.

    Args:
        loaded: the model.
        rows: rows whose prompts have equal `shapes`.

    Raises:
        torch.OutOfMemoryError: the batch does not fit on the device.
    """
    device = loaded.model.device
    batch = collate([row.prompt for row in rows], loaded.padding)
    length = int(batch["input_ids"].shape[1])
    room = [row.prompt.room for row in rows]
    stop = _Stop(rows, length)
    with torch.inference_mode():
        written = loaded.model.generate(
            **{name: tensor.to(device) for name, tensor in batch.items()},
            max_new_tokens=max(room),
            logits_processor=transformers.LogitsProcessorList(
                [
                    KeepSchemas([row.matcher for row in rows], length, stop.over),
                    Draw([row.sampling for row in rows], room, length, device),
                ]
            ),
            stopping_criteria=transformers.StoppingCriteriaList([stop]),
        )
    return [
        _until_end(tokens[:most], loaded.ends)
        for tokens, most in zip(written[:, length:].tolist(), room, strict=True)
    ]


def collate(prompts: Sequence[Prompt], padding: int) -> dict[str, torch.Tensor]:
    """Put prompts of equal `shapes` together, the shorter ones padded on the left."""
    length = max(prompt.length for prompt in prompts)
    return {
        name: torch.cat(
            [
                _pad(prompt.tensors[name], length, padding if name == "input_ids" else 0)
                if prompt.runs_along(name)
                else prompt.tensors[name]
                for prompt in prompts
            ]
        )
        for name in prompts[0].tensors
    }


def _pad(tensor: torch.Tensor, length: int, value: int) -> torch.Tensor:
    before = tensor.new_full((1, length - tensor.shape[1], *tensor.shape[2:]), value)
    return torch.cat([before, tensor], dim=1)


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    end = next((k for k, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[: end + 1]


class Draw:
    """A logits processor that leaves each row one token, sampled with its own random numbers.

    Rows of temperature 0 keep their scores, of which the largest is taken. No row's sample depends
    on other rows or on the random state of the process.
    """

    def __init__(
        self, samplings: Sequence[Sampling], room: Sequence[int], length: int, device: torch.device
    ) -> None:
        drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
        heat = [[samplings[row].temperature] for row in drawn]
        numbers = np.zeros((len(drawn), max(room)))
        for k, row in enumerate(drawn):
            numbers[k] = np.random.default_rng(samplings[row].seed % 2**64).random(max(room))
        self._rows = torch.tensor(drawn, dtype=torch.long, device=device)
        self._temperature = torch.tensor(heat, dtype=torch.float64, device=device)
        self._numbers = torch.from_numpy(numbers).to(device)
        self._length = length

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not len(self._rows):
            return scores
        step = ids.shape[1] - self._length
        shares = torch.softmax(scores[self._rows].double() / self._temperature, dim=-1).cumsum(-1)
        wanted = self._numbers[:, step : step + 1] * shares[:, -1:]
        tokens = torch.searchsorted(shares, wanted, right=True).clamp(max=scores.shape[1] - 1)
        alone = torch.full_like(scores[self._rows], -torch.inf).scatter(1, tokens, 0.0)
        return scores.index_copy(0, self._rows, alone)


class _Stop:
    """A stopping criterion that ends rows that have no room left or that nobody waits for.

    Attributes:
        over: numbers of the ended rows.
    """

    def __init__(self, rows: Sequence[Row], length: int) -> None:
        self.over: set[int] = set()
        self._rows = rows
        self._length = length

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        written = ids.shape[1] - self._length
        done = [row.prompt.room <= written or row.given_up() for row in self._rows]
        self.over.update(number for number, is_done in enumerate(done) if is_done)
        return torch.tensor(done, device=ids.device)
