"""Measure V-JEPA 2 ViT-g-384 on a GPU, end to end from uint8 frames, against transformers.

Weights are random. Each step takes the 8 new frames of every window from host memory, prepares
them, encodes the windows and copies the pooled vectors back. The rival, transformers' VJEPA2Model
in bf16 with sdpa, gets windows that are already prepared on the device. Rates are compared with
that of a large bf16 matrix product measured in the same run, and the real-time factor with a
ceiling derived from such a product on an H200.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness import finish, parse_arguments, print_table

try:
    import torch
    from transformers import VJEPA2Config, VJEPA2Model

    from action100m.segmentation.encoders.vjepa2.architecture import Architecture
    from action100m.segmentation.encoders.vjepa2.model import (
        DTYPES,
        Attention,
        Precision,
        VJepa2Model,
        make_forward,
    )
except ImportError as missing:
    print(f"bench/encode.py needs a GPU with PyTorch and transformers: {missing}")
    raise SystemExit(2) from missing

SIZES: Mapping[str, Any] = {
    "crop_size": 384,
    "frames_per_clip": 64,
    "hidden_size": 1408,
    "num_attention_heads": 22,
    "num_hidden_layers": 40,
    "mlp_ratio": 48 / 11,
    "pred_num_hidden_layers": 1,
}
STRIDE = 8
SECONDS_PER_WINDOW = STRIDE * 4 / 30  # of video, every 4th of 30 frames a second
CEILING = 7.4  # times real time, at 788 TFLOP/s
REPEATS = 3


@dataclass(frozen=True)
class Variant:
    """One way to compute the encoder."""

    name: str
    precision: Precision = "bf16"
    attention: Attention = "cudnn"
    compiled: bool = False
    graphed: bool = False


VARIANTS = (
    Variant("eager, flash", attention="flash"),
    Variant("eager, cudnn"),
    Variant("compiled, flash", attention="flash", compiled=True),
    Variant("compiled, cudnn", compiled=True),
    Variant("compiled, cudnn, graphed", compiled=True, graphed=True),
    Variant("fp8, compiled, cudnn", precision="fp8", compiled=True),
)


def median_of(step: Callable[[], object], warm_ups: int = 2) -> float:
    """Return the median seconds of a step that ends with the device idle."""
    seconds = []
    for turn in range(warm_ups + REPEATS):
        start = time.perf_counter()
        step()
        if turn >= warm_ups:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def wait(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, side: int) -> float:
    """Return the FLOP/s of bf16 products of square matrices: the median of 3 runs of 20."""
    a, b = (torch.randn((side, side), device=device, dtype=torch.bfloat16) for _ in range(2))

    def step() -> None:
        for _ in range(20):
            a @ b
        wait(device)

    return 20 * 2 * side**3 / median_of(step)


def make_rival(sizes: Mapping[str, Any], device: torch.device) -> Any:
    """Return transformers' model in bf16 with sdpa."""
    torch.manual_seed(0)
    config = VJEPA2Config(**sizes)
    config._attn_implementation = "sdpa"
    with device:
        return VJEPA2Model(config).eval().bfloat16()


def make_model(
    architecture: Architecture, weights: Mapping[str, Any], variant: Variant, device: torch.device
) -> VJepa2Model:
    """Return our model with the rival's weights."""
    torch.compiler.reset()  # else code compiled for another variant would be reused
    forward = make_forward(
        architecture,
        weights,
        frames=architecture.frames,
        precision=variant.precision,
        attention=variant.attention,
        compiled=variant.compiled,
        graphed=variant.graphed,
    )
    model = VJepa2Model(
        lambda: forward,
        architecture,
        name="vjepa2",
        identity="random",
        device=device,
        dtype=DTYPES[variant.precision],
        window=architecture.frames,
        stride=STRIDE,
        batch=1,
    )
    model.load()
    return model


def end_to_end(model: VJepa2Model, batch: int) -> float:
    """Return windows per second from uint8 frames in host memory to vectors in host memory."""
    side = model.short_side
    size = (batch * STRIDE, side, side * 16 // 9, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    prepared = model.prepare(pixels)
    span = model.window + (batch - 1) * STRIDE
    buffer = model.empty(max(span, len(prepared)), prepared)
    buffer[:] = 0

    def step() -> None:
        buffer[-len(pixels) :] = model.prepare(pixels)
        starts = range(0, batch * STRIDE, STRIDE)
        model.embed([buffer[start : start + model.window] for start in starts])

    return batch / median_of(step)


def rate_of_rival(rival: Any, pixels: torch.Tensor) -> float:
    """Return windows per second of transformers' encoder, from prepared windows on the device."""

    def step() -> None:
        with torch.no_grad():
            tokens = rival.encoder(pixels).last_hidden_state
            tokens.unflatten(1, (pixels.shape[1] // 2, -1)).float().mean(2).cpu()

    return len(pixels) / median_of(step)


def relative_errors(
    architecture: Architecture, weights: Mapping[str, Any], variants: list[Variant], pixels: Any
) -> list[float]:
    """Return |ours - float32| / |float32| of one window's vectors, for each variant."""

    def vectors(precision: Precision, attention: Attention) -> Any:
        forward = make_forward(
            architecture,
            weights,
            frames=architecture.frames,
            precision=precision,
            attention=attention,
        )
        with torch.no_grad():
            return forward(pixels.to(DTYPES[precision]))

    exact = vectors("float32", "cudnn")
    found = [vectors(variant.precision, variant.attention) for variant in variants]
    return [float((values - exact).norm() / exact.norm()) for values in found]


def free() -> None:
    """Return unused memory to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(
    sizes: Mapping[str, Any],
    device: torch.device,
    variants: tuple[Variant, ...],
    batches: tuple[int, ...],
    side: int,
) -> None:
    """Measure everything, and print the table and the result.

    Args:
        sizes: arguments of VJEPA2Config.
        device: the device to measure.
        variants: at least one in bf16; all run at the first batch size, the best at the others too.
        batches: batch sizes in windows.
        side: side of the matrices whose product defines the peak.
    """
    peak = matrix_rate(device, side)
    rival = make_rival(sizes, device)
    architecture = Architecture.of({**rival.config.to_dict(), "model_type": "vjepa2"})
    operations = architecture.operations(architecture.frames)
    shape = (1, architecture.frames, 3, architecture.crop, architecture.crop)
    window = torch.randn(shape, device=device, dtype=torch.bfloat16)
    theirs = max(rate_of_rival(rival, window.expand(n, *shape[1:])) for n in (1, 2))
    weights = rival.encoder.state_dict()
    del rival
    free()

    rows: list[list[object]] = []

    def add(name: str, batch: int, rate: float) -> None:
        flops, factor = rate * operations, rate * SECONDS_PER_WINDOW
        rows.append([name, batch, rate, flops / 1e12, flops / peak, factor, rate / theirs])
        # Print immediately, so that an interrupted benchmark shows what was measured.
        share = flops / peak
        print(f"{name}, batch {batch}: {rate:.3f} windows/s, {share:.3f} of peak", flush=True)

    add("transformers, bf16, sdpa", 1, theirs)
    rates: dict[Variant, float] = {}

    def try_variant(variant: Variant, batch: int) -> None:
        try:
            model = make_model(architecture, weights, variant, device)
            rate = end_to_end(model, batch)
        except Exception as error:  # a missing kernel or full memory is a result too
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(f"{variant.name}, batch {batch}: {reason}", file=sys.stderr)
            rows.append([variant.name, batch, *["failed"] * 5])
        else:
            add(variant.name, batch, rate)
            rates[variant] = max(rate, rates.get(variant, 0.0))
        free()

    print(f"bf16 matrix product: {peak / 1e12:.1f} TFLOP/s", flush=True)
    for variant in variants:
        try_variant(variant, batches[0])
    half = [variant for variant in rates if variant.precision == "bf16"]
    if not half:
        raise SystemExit("No bf16 variant runs here; the reasons are printed above.")
    best = max(half, key=rates.__getitem__)
    for batch in batches[1:]:
        try_variant(best, batch)

    compared = [best, *(variant for variant in rates if variant.precision == "fp8")]
    errors = relative_errors(architecture, weights, compared, window)
    header = ("variant", "batch", "windows/s", "TFLOP/s", "of the peak", "x real time", "ratio")
    print_table(header, rows)
    print(f"bf16 matrix product: {peak / 1e12:.1f} TFLOP/s; ceiling of real time: {CEILING}")
    for variant, error in zip(compared, errors, strict=True):
        print(f"{variant.name}: relative error against float32 {error:.2e}")
    ours = rates[best]
    finish(
        "encode",
        ours=ours,
        rival=theirs,
        ratio=ours / theirs,
        unit="windows/s",
        best=best.name,
        tflops=ours * operations / 1e12,
        peak_tflops=peak / 1e12,
        share_of_peak=ours * operations / peak,
        real_time=ours * SECONDS_PER_WINDOW,
        ceiling=CEILING,
        errors={variant.name: error for variant, error in zip(compared, errors, strict=True)},
        fp8=max((rates[v] for v in rates if v.precision == "fp8"), default=None),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        torch=torch.__version__,
    )


def main() -> None:
    """Measure on the first GPU; without a GPU, print so and exit with 2."""
    full = parse_arguments(__doc__).full
    if not torch.cuda.is_available():
        print(f"bench/encode.py needs an NVIDIA GPU; PyTorch {torch.__version__} finds none here.")
        raise SystemExit(2)
    batches = (4, 1, 2, 3, 5, 6, 7, 8) if full else (4, 1, 2, 8)
    variants = VARIANTS if full else tuple(v for v in VARIANTS if v.compiled)
    measure(SIZES, torch.device("cuda"), variants, batches, side=8192)


if __name__ == "__main__":
    main()
