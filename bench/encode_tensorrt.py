"""Measure the TensorRT engine of V-JEPA 2 ViT-g-384 against our compiled PyTorch model.

Both run in bf16, with the same random weights, end to end from uint8 frames as in encode.py. The
time to export and build the engine is reported beside them; a run takes the engine from a cache.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from encode import SIZES, Variant, end_to_end, make_model, make_rival
from harness import finish, parse_arguments, print_table

try:
    import torch

    from action100m.device import release_memory
    from action100m.segmentation.encoders.vjepa2 import open_checkpoint
    from action100m.segmentation.encoders.vjepa2.tensorrt import build_engine, open_engine
except ImportError as missing:
    print(f"bench/encode_tensorrt.py needs a GPU with PyTorch and TensorRT: {missing}")
    raise SystemExit(2) from missing

BATCH = 4


def measure(sizes: Any, device: torch.device, folder: Path) -> None:
    """Measure both on one device, and print the table and the result."""
    make_rival(sizes, device).save_pretrained(folder / "checkpoint")
    checkpoint = open_checkpoint(str(folder / "checkpoint"))
    variant = Variant("PyTorch, compiled, cudnn", compiled=True)
    weights = checkpoint.weights(device)
    theirs = end_to_end(make_model(checkpoint.architecture, weights, variant, BATCH, device))
    print(f"{variant.name}: {theirs:.3f} windows/s", flush=True)
    del weights
    release_memory()

    start = time.perf_counter()
    engine = build_engine(checkpoint, folder, device=str(device), batch=BATCH)
    built = time.perf_counter() - start
    model = open_engine(checkpoint, engine, device=str(device))
    model.load()
    ours = end_to_end(model)
    print_table(
        ("bf16, batch 4", "windows/s", "ratio"),
        [[variant.name, theirs, 1.0], ["TensorRT", ours, ours / theirs]],
    )
    finish(
        "encode_tensorrt",
        ours=ours,
        rival=theirs,
        ratio=ours / theirs,
        unit="windows/s",
        build_seconds=built,
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device),
    )


def main() -> None:
    """Measure on the first GPU; without a GPU, print so and exit with 2."""
    parse_arguments(__doc__)
    if not torch.cuda.is_available():
        print(
            f"bench/encode_tensorrt.py needs an NVIDIA GPU; PyTorch {torch.__version__} finds none."
        )
        raise SystemExit(2)
    with tempfile.TemporaryDirectory() as folder:
        measure(SIZES, torch.device("cuda"), Path(folder))


if __name__ == "__main__":
    main()
