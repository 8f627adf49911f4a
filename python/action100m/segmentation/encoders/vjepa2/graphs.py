"""Replay a forward pass as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

_WARM_UPS = 3


class GraphedForward:
    """Captures the forward pass once for every batch size, then replays it.

    Args:
        forward: maps one CUDA tensor to another, without copying anything to the host.
    """

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._forward = forward
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the forward pass; the result is a new tensor."""
        if len(pixels) not in self._captured:
            self._captured[len(pixels)] = self._capture(pixels)
        graph, given, result = self._captured[len(pixels)]
        given.copy_(pixels)
        graph.replay()
        return result.clone()

    def _capture(
        self, pixels: torch.Tensor
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        given = pixels.clone()
        # Compilation and tuning in the first calls must not be captured.
        side = torch.cuda.Stream(pixels.device)
        side.wait_stream(torch.cuda.current_stream(pixels.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._forward(given)
        torch.cuda.current_stream(pixels.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads, which prepare frames, may allocate during the capture.
        with (
            torch.cuda.device(pixels.device),
            torch.cuda.graph(graph, capture_error_mode="thread_local"),
        ):
            result = self._forward(given)
        return graph, given, result
