"""The engine that runs vLLM on this machine: continuous batching, prefix caching, many GPUs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

# Set before vLLM is imported, which reads them once: no usage reports, and only warnings.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

import vllm
from vllm.exceptions import VLLMClientError, VLLMError
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from action100m.checkpoint import Checkpoint, find_checkpoint
from action100m.config import VllmConfig
from action100m.inference.engine import (
    EngineStoppedError,
    Outcome,
    Request,
    Result,
    Usage,
    capacity_of,
    outcome_of,
)
from action100m.inference.loop import Loop
from action100m.inference.processor import open_processor
from action100m.inference.reasoning import answer_in
from action100m.inference.template import metadata_of, opening_of

_DTYPES = {"auto": "auto", "bf16": "bfloat16", "float32": "float32"}


@contextmanager
def open_vllm(config: VllmConfig, pictures: int) -> Iterator[VllmEngine]:
    """Load a model into vLLM's own processes, and answer requests during the block.

    Args:
        config: the model, and how vLLM runs it.
        pictures: maximum number of pictures in a request, or of frames in its clip.

    Raises:
        ValueError: the checkpoint is not available, or vLLM cannot run it here.
    """
    found = find_checkpoint(config.model, config.revision)
    with Loop("vllm") as loop:
        engine = VllmEngine(found, config, pictures, loop)
        try:
            yield engine
        finally:
            loop.cancel()
            engine.close()


class VllmEngine:
    """An `Engine` on vLLM's asynchronous interface, which accepts requests at any time."""

    def __init__(self, found: Checkpoint, config: VllmConfig, pictures: int, loop: Loop) -> None:
        inputs = open_processor(found)
        self._template, self._tokenizer = inputs.template, inputs.tokenizer
        shown = {"image": 1 if inputs.template.takes_clips else pictures, "video": 1}
        self._loop = loop
        try:
            arguments = _arguments(found, config, shown if inputs.sees else {})
            self._llm = loop.start(_start(arguments)).result()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[-1]
            raise ValueError(f"vLLM cannot run {found.source} here: {reason}") from error
        self._copies = config.data_parallel
        self.capacity = capacity_of(config.sequences * config.data_parallel)
        self.context_length: int | None = self._llm.model_config.max_model_len

    def submit(self, request: Request) -> Future[Result]:
        return self._loop.start(self._answer(request))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encoded = self._tokenizer(list(texts), add_special_tokens=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def close(self) -> None:
        """Stop vLLM's processes."""
        self._llm.shutdown()

    async def _answer(self, request: Request) -> Result:
        try:
            prompt = self._prompt(request)
            answers = self._llm.generate(
                prompt,
                self._parameters(request),
                request.id,
                tokenization_kwargs={"add_special_tokens": False},
                data_parallel_rank=self._copy(request.group),
            )
            outputs = [output async for output in answers]
        except EngineDeadError as error:
            raise EngineStoppedError("vLLM's process has died; its log says why.") from error
        except (VLLMError, ValueError) as error:
            reason, lasting = _words(error), isinstance(error, (VLLMClientError, ValueError))
            return Result(request.id, Outcome.FAILED, reason=reason, lasting=lasting)
        if not outputs:
            return Result(request.id, Outcome.FAILED, reason="vLLM returned no answer.")
        return _result(request, opening_of(prompt["prompt"]), outputs[-1])

    def _copy(self, group: str) -> int | None:
        """Return the copy of the model that has a group's prefix in its cache."""
        if self._copies == 1 or not group:
            return None
        digest = hashlib.sha256(group.encode(errors="replace")).digest()
        return int.from_bytes(digest[:8], "big") % self._copies

    def _prompt(self, request: Request) -> Any:
        # vLLM's grammar applies from the first token, which must belong to the answer.
        text = self._template.prompt(request, thought_over=request.schema is not None)
        prompt: dict[str, Any] = {"prompt": text}
        shown: dict[str, Any] = {}
        if images := self._template.images(request):
            shown["image"] = images
        if clips := self._template.clips(request):
            # Otherwise vLLM would drop frames, as of a video that it had opened itself.
            described = [{**metadata_of(clip), "do_sample_frames": False} for clip in clips]
            shown["video"] = [
                (self._template.frames(clip), metadata)
                for clip, metadata in zip(clips, described, strict=True)
            ]
        if shown:
            prompt["multi_modal_data"] = shown
        return prompt

    def _parameters(self, request: Request) -> Any:
        sampling = request.sampling
        schema = None
        if request.schema is not None:
            schema = StructuredOutputsParams(json=dict(request.schema), disable_any_whitespace=True)
        return vllm.SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            structured_outputs=schema,
            # Special tokens separate the reasoning from the answer.
            skip_special_tokens=not (self._template.harmony or self._template.thinks),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )


def _arguments(found: Checkpoint, config: VllmConfig, shown: dict[str, int]) -> Any:
    """Return vLLM's arguments; `shown`: number of pictures and clips that a request may have."""
    return vllm.AsyncEngineArgs(
        model=str(found.folder),
        dtype=_DTYPES[config.precision],
        load_format="safetensors",
        tensor_parallel_size=config.tensor_parallel,
        data_parallel_size=config.data_parallel,
        gpu_memory_utilization=config.memory_share,
        max_model_len=config.context_length,
        max_num_seqs=config.sequences,
        enable_prefix_caching=True,
        # Otherwise an answer may fill its limit with spaces.
        structured_outputs_config={"backend": "guidance", "disable_any_whitespace": True},
        limit_mm_per_prompt=shown,
        disable_log_stats=True,
    )


async def _start(arguments: Any) -> Any:
    return AsyncLLM.from_engine_args(arguments)


def _words(error: Exception) -> str:
    """Return the first line of an error's message, or of its cause's if it has none of its own."""
    cause = error.__cause__ or error
    words = str(error) or f"{type(cause).__name__}: {cause}"
    return words.strip().split("\n", 1)[0]


def _result(request: Request, opening: str, output: Any) -> Result:
    """Return vLLM's output as a result; `opening`: what the prompt contains of the answer."""
    (answer,) = output.outputs
    usage = Usage(
        prompt=len(output.prompt_token_ids or ()),
        cached=output.num_cached_tokens or 0,
        completion=len(answer.token_ids),
    )
    if answer.finish_reason not in ("stop", "length"):
        reason = f"vLLM ended the answer early ({answer.finish_reason})."
        return Result(request.id, Outcome.FAILED, reason=reason, usage=usage)
    text = answer_in(opening + answer.text)
    outcome, reason = outcome_of(text, cut_off=answer.finish_reason == "length")
    return Result(request.id, outcome, text, reason, usage)
