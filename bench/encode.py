"""Measure V-JEPA 2 ViT-g-384 on a GPU, end to end from uint8 frames, against transformers.

Weights are random. Each step takes the 8 new frames of every window from host memory, prepares
them, encodes the windows and copies the pooled vectors back. The rival, transformers' VJEPA2Model
in bf16 with sdpa, gets windows that are already prepared on the device. Rates are compared with
that of a large bf16 matrix product measured in the same run, and the real-time factor with a
ceiling derived from such a product on an H200.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness import finish, parse_arguments, print_table

try:
    import torch
    from transformers import VJEPA2Config, VJEPA2Model

    from action100m.config import Attention, Precision
    from action100m.device import release_memory
    from action100m.segmentation.encoders.vjepa2.architecture import Architecture
    from action100m.segmentation.encoders.vjepa2.attention import is_available
    from action100m.segmentation.encoders.vjepa2.model import (
        DTYPES,
        VJepa2Model,
        make_forward,
    )
    from action100m.segmentation.encoders.vjepa2.peak import matrix_rate
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
SECONDS_PER_WINDOW = STRIDE * 4 / 30  # of video, every 4th of 30 frames per second
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
    Variant("compiled, FA3", attention="fa3", compiled=True),
    Variant("compiled, FA4", attention="fa4", compiled=True),
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


def make_rival(sizes: Mapping[str, Any], device: torch.device) -> Any:
    """Return transformers' model in bf16 with sdpa."""
    torch.manual_seed(0)
    config = VJEPA2Config(**sizes)
    config._attn_implementation = "sdpa"
    with device:
        return VJEPA2Model(config).eval().bfloat16()


class MeasuredModel(VJepa2Model):
    """Our model; the first batch is its warm-up."""

    def try_out(self) -> None:
        """Do nothing: only the batch size that is measured needs to be compiled."""


def make_model(
    architecture: Architecture,
    weights: Mapping[str, Any],
    variant: Variant,
    batch: int,
    device: torch.device,
) -> VJepa2Model:
    """Return our model with the rival's weights, compiled for this batch size."""
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
    model = MeasuredModel(
        lambda: forward,
        architecture,
        name="vjepa2",
        identity="random",
        device=device,
        dtype=DTYPES[variant.precision],
        window=architecture.frames,
        stride=STRIDE,
        batch=batch,
    )
    model.load()
    return model


def end_to_end(model: VJepa2Model) -> float:
    """Return windows per second from uint8 frames in host memory to vectors in host memory."""
    side, batch = model.short_side, model.batch
    size = (batch * STRIDE, side, side * 16 // 9, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    prepared = model.prepare(pixels)
    span = model.window + (batch - 1) * STRIDE
    buffer = model.empty(max(span, len(prepared)), prepared)
    buffer.normal_()  # as the rival's: products of zeros take less power, so that clocks are higher

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

    def vectors(variant: Variant) -> Any:
        forward = make_forward(
            architecture,
            weights,
            frames=architecture.frames,
            precision=variant.precision,
            attention=variant.attention,
        )
        with torch.no_grad():
            return forward(pixels.to(DTYPES[variant.precision]))

    exact = vectors(Variant("float32", precision="float32"))
    found = [vectors(variant) for variant in variants]
    return [float((values - exact).norm() / exact.norm()) for values in found]


@dataclass
class Measured:
    """What has been measured so far.

    Attributes:
        peak: FLOP/s of the matrix product.
        operations: FLOP per window.
        theirs: windows per second of the rival at its best batch size.
        rows: of the table.
        rates: windows per second of each variant at its best batch size.
    """

    peak: float
    operations: int
    theirs: float
    rows: list[list[object]] = field(default_factory=list)
    rates: dict[Variant, float] = field(default_factory=dict)

    def add(self, name: str, batch: int, rate: float) -> None:
        """Add a row, and print it at once: an interrupted benchmark shows what it measured."""
        flops, factor = rate * self.operations, rate * SECONDS_PER_WINDOW
        share = flops / self.peak
        self.rows.append([name, batch, rate, flops / 1e12, share, factor, rate / self.theirs])
        print(f"{name}, batch {batch}: {rate:.3f} windows/s, {share:.3f} of peak", flush=True)

    def add_failure(self, variant: Variant, batch: int, error: Exception) -> None:
        """Add a row for a variant that does not run: a missing kernel or full memory."""
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{variant.name}, batch {batch}: {reason}", file=sys.stderr)
        self.rows.append([variant.name, batch, *["failed"] * 5])

    @property
    def best(self) -> Variant | None:
        """The fastest bf16 variant."""
        half = [variant for variant in self.rates if variant.precision == "bf16"]
        return max(half, key=self.rates.__getitem__, default=None)

    def finish(self, **more: object) -> None:
        """Print the result so far as the last line."""
        if self.best is None:
            return
        ours = self.rates[self.best]
        finish(
            "encode",
            ours=ours,
            rival=self.theirs,
            ratio=ours / self.theirs,
            unit="windows/s",
            best=self.best.name,
            tflops=ours * self.operations / 1e12,
            peak_tflops=self.peak / 1e12,
            share_of_peak=ours * self.operations / self.peak,
            real_time=ours * SECONDS_PER_WINDOW,
            ceiling=CEILING,
            fp8=max((self.rates[v] for v in self.rates if v.precision == "fp8"), default=None),
            torch=torch.__version__,
            **more,
        )


def measure(
    sizes: Mapping[str, Any],
    device: torch.device,
    variants: tuple[Variant, ...],
    batches: tuple[int, ...],
) -> None:
    """Measure everything, and print the table and the result.

    Args:
        sizes: arguments of VJEPA2Config.
        device: the device to measure.
        variants: at least one in bf16; all run at the first batch size, the best at the others too.
        batches: batch sizes in windows.
    """
    peak = matrix_rate(device, torch.bfloat16)
    print(f"bf16 matrix product: {peak / 1e12:.1f} TFLOP/s", flush=True)
    rival = make_rival(sizes, device)
    architecture = Architecture.of({**rival.config.to_dict(), "model_type": "vjepa2"})
    shape = (1, architecture.frames, 3, architecture.crop, architecture.crop)
    window = torch.randn(shape, device=device, dtype=torch.bfloat16)
    theirs = {n: rate_of_rival(rival, window.expand(n, *shape[1:])) for n in batches}
    weights = rival.encoder.state_dict()
    del rival
    release_memory()

    found = Measured(peak, architecture.operations(architecture.frames), max(theirs.values()))
    for batch, rate in theirs.items():
        found.add("transformers, bf16, sdpa", batch, rate)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    for variant in variants:
        try_variant(found, variant, batches[0], architecture, weights, device)
        found.finish(device=name)
    if found.best is None:
        raise SystemExit("No bf16 variant runs on this device; see the reasons above.")
    for batch in batches[1:]:
        try_variant(found, found.best, batch, architecture, weights, device)
    compared = [found.best, *(variant for variant in found.rates if variant.precision == "fp8")]
    errors = relative_errors(architecture, weights, compared, window)
    print_table(
        ("variant", "batch", "windows/s", "TFLOP/s", "of the peak", "x real time", "ratio"),
        found.rows,
    )
    later = matrix_rate(device, torch.bfloat16)
    print(
        f"bf16 matrix product: {peak / 1e12:.1f} TFLOP/s before, {later / 1e12:.1f} after; "
        f"ceiling of the real-time factor: {CEILING}"
    )
    named = {variant.name: error for variant, error in zip(compared, errors, strict=True)}
    for variant, error in named.items():
        print(f"{variant}: relative error against float32 {error:.2e}")
    found.finish(device=name, errors=named, peak_tflops_after=later / 1e12)


def try_variant(
    found: Measured,
    variant: Variant,
    batch: int,
    architecture: Architecture,
    weights: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Measure a variant at a batch size, or record why it does not run."""
    try:
        rate = end_to_end(make_model(architecture, weights, variant, batch, device))
    except Exception as error:
        found.add_failure(variant, batch, error)
    else:
        found.add(variant.name, batch, rate)
        found.rates[variant] = max(rate, found.rates.get(variant, 0.0))
    release_memory()


def main() -> None:
    """Measure on the first GPU; without a GPU, print so and exit with 2."""
    full = parse_arguments(__doc__).full
    if not torch.cuda.is_available():
        print(f"bench/encode.py needs an NVIDIA GPU; PyTorch {torch.__version__} finds none here.")
        raise SystemExit(2)
    batches = (4, 1, 2, 3, 6, 8) if full else (4, 1, 8)
    variants = [v for v in VARIANTS if (full or v.compiled) and is_available(v.attention)]
    measure(SIZES, torch.device("cuda"), tuple(variants), batches)


if __name__ == "__main__":
    main()
