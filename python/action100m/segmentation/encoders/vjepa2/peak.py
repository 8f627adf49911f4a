"""Measure what a device can do, to compare the encoder with."""

from __future__ import annotations

import time

import torch

from action100m.trace import PEAK, span

_WARM_UP, _MEASURED = 1.0, 0.5  # seconds; a GPU that was idle clocks higher than a busy one


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the sustained FLOP/s of products of large square matrices; traced as `PEAK`."""
    # A GPU becomes idle whenever the clock is read.
    side, at_once = (8192, 20) if device.type == "cuda" else (512, 1)
    a, b = (torch.randn((side, side), device=device, dtype=dtype) for _ in range(2))

    def multiply(least: float) -> tuple[int, float]:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < least:
            for _ in range(at_once):
                a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            count += at_once
        return count * 2 * side**3, time.perf_counter() - start

    multiply(_WARM_UP)
    with span(PEAK) as figures:
        operations, seconds = multiply(_MEASURED)
        figures["TFLOP"] = operations / 1e12
    return operations / seconds
