"""Measure the CUDA kernels at ViT-g-384's sizes against the copy bandwidth and torch's own ops.

Needs a GPU, torch and a build with nvcc; if one is missing, it prints so and exits with 2.
Bandwidths count the bytes that must be read and written once: of frames, only the cropped area.

    python bench/kernels.py
    compute-sanitizer --tool memcheck --error-exitcode 1 python -m pytest -m gpu tests/gpu/test_kernels.py
    compute-sanitizer --tool racecheck --error-exitcode 1 python -m pytest -m gpu tests/gpu/test_kernels.py
"""  # noqa: E501  commands stay on one line

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

from action100m.segmentation import kernels
from harness import finish, parse_arguments, print_table

SHORT_SIDE, CROP = 438, 384
FRAMES = 256  # several times the size of the cache
WINDOWS, TUBELETS, PLACES, DIMENSION = 8, 32, 576, 1408
CALLS = 20  # between two readings of the clock
TARGET = 0.7  # share of the copy bandwidth


def require_gpu() -> Any:
    """Return torch, or exit with 2 if it, a GPU or the kernels are missing."""
    try:
        import torch  # noqa: PLC0415  it may be missing
    except ModuleNotFoundError:
        torch = None
    if torch is None or not torch.cuda.is_available() or kernels.COMPILED_FOR is None:
        print("No torch with an NVIDIA GPU, or no CUDA kernels: nothing was measured.")
        sys.exit(2)
    return torch


def main() -> None:
    samples = 25 if parse_arguments(__doc__).full else 9
    torch = require_gpu()
    torch.manual_seed(0)

    copy = copy_bandwidth(torch, samples)
    cases = {
        "preprocess 480x854": preprocess_case(torch, 480, 854),
        "preprocess 1080x1920": preprocess_case(torch, 1080, 1920),
        "crop 438x779": preprocess_case(torch, 438, 779),
        "pool": pool_case(torch),
    }
    rows, shares, ratios = [], {}, {}
    for name, case in cases.items():
        moved, ours, rival, check = case()
        check()
        own, other = (median_call_seconds(torch, call, samples) for call in (ours, rival))
        shares[name] = moved / own / 1e9 / copy
        ratios[name] = other / own
        rows.append((name, moved / own / 1e9, shares[name], own * 1e6, other * 1e6, other / own))
        torch.cuda.empty_cache()

    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}; a copy moves {copy:.0f} GB/s")
    print_table(("kernel", "GB/s", "of the copy", "µs", "torch µs", "torch / ours"), rows)
    worst = min(shares, key=lambda name: shares[name])
    finish(
        "kernels",
        ours=shares[worst],
        rival=TARGET,
        ratio=shares[worst] / TARGET,
        unit="share of the copy bandwidth, of the slowest kernel",
        slowest=worst,
        shares=shares,
        times_faster_than_torch=ratios,
        copy_gb_per_s=copy,
        device=device,
        torch=torch.__version__,
    )


Case = Callable[[], tuple[float, Callable[[], object], Callable[[], object], Callable[[], None]]]


def median_call_seconds(torch: Any, call: Callable[[], object], samples: int) -> float:
    """Return the median seconds of a call, by the GPU's clock."""
    for _ in range(3):
        call()
    times = []
    for _ in range(samples):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(CALLS):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / CALLS)
    return statistics.median(times)


def copy_bandwidth(torch: Any, samples: int) -> float:
    """Return the GB/s of a copy, bytes read and written together."""
    source = torch.randint(0, 256, (2**30,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    seconds = median_call_seconds(torch, lambda: target.copy_(source), samples)
    return 2 * source.numel() / seconds / 1e9


def preprocess_case(torch: Any, height: int, width: int) -> Case:
    """Preprocess frames to bf16; the rival does the Hugging Face processor's steps on the GPU."""

    def make() -> tuple[float, Callable[[], object], Callable[[], object], Callable[[], None]]:
        frames = torch.randint(0, 256, (FRAMES, height, width, 3), dtype=torch.uint8, device="cuda")
        prepared = torch.empty(FRAMES, 3, CROP, CROP, dtype=torch.bfloat16, device="cuda")
        shorter = min(height, width)
        resized = SHORT_SIDE * height // shorter, SHORT_SIDE * width // shorter
        top, left = (resized[0] - CROP) // 2, (resized[1] - CROP) // 2
        mean = 255 * torch.tensor(kernels.IMAGENET_MEAN, device="cuda").view(3, 1, 1)
        std = 255 * torch.tensor(kernels.IMAGENET_STD, device="cuda").view(3, 1, 1)

        def ours() -> None:
            stream = torch.cuda.current_stream().cuda_stream
            kernels.preprocess_on_gpu(frames, prepared, SHORT_SIDE, stream)

        def rival() -> Any:
            planes = frames.permute(0, 3, 1, 2)
            if resized != (height, width):
                planes = torch.nn.functional.interpolate(
                    planes.float(), resized, mode="bilinear", antialias=True
                ).round()
            cropped = planes[:, :, top : top + CROP, left : left + CROP]
            return ((cropped.float() - mean) / std).to(torch.bfloat16)

        def check() -> None:
            ours()
            exact = torch.from_numpy(kernels.preprocess(frames[:2].cpu().numpy(), SHORT_SIDE, CROP))
            assert torch.equal(prepared[:2].cpu(), exact.to(torch.bfloat16)), "wrong pixels"

        behind_the_crop = 3 * (CROP * shorter / SHORT_SIDE) ** 2
        return FRAMES * (behind_the_crop + 2 * 3 * CROP**2), ours, rival, check

    return make


def pool_case(torch: Any) -> Case:
    """Pool the tokens of windows to one vector per tubelet."""

    def make() -> tuple[float, Callable[[], object], Callable[[], object], Callable[[], None]]:
        shape = (WINDOWS, TUBELETS * PLACES, DIMENSION)
        tokens = torch.randn(shape, dtype=torch.bfloat16, device="cuda")
        pooled = torch.empty(WINDOWS, TUBELETS, DIMENSION, device="cuda")

        def ours() -> None:
            kernels.pool_on_gpu(tokens, pooled, torch.cuda.current_stream().cuda_stream)

        def rival() -> Any:
            by_place = tokens.view(WINDOWS, TUBELETS, PLACES, DIMENSION)
            return by_place.mean(2, dtype=torch.float32)

        def check() -> None:
            ours()
            torch.testing.assert_close(pooled, rival(), rtol=1e-5, atol=2e-6)

        return 2.0 * tokens.numel() + 4.0 * pooled.numel(), ours, rival, check

    return make


if __name__ == "__main__":
    main()
