"""Export the encoder with its pooling as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from action100m.segmentation.encoders.vjepa2.checkpoint import VJepa2Checkpoint
from action100m.segmentation.encoders.vjepa2.transformer import make_transformer

ExportType = Literal["float32", "fp16", "bf16"]

INPUT, OUTPUT = "pixels", "vectors"
DTYPES = {"float32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_OPSET = 23  # the first with attention as one operator: without fusion, it takes 15 GB a window


def export_onnx(
    checkpoint: VJepa2Checkpoint,
    path: Path,
    *,
    window: int | None = None,
    precision: ExportType = "float32",
) -> None:
    """Write the encoder with its pooling as ONNX, with the weights in `path` + ".data".

    The input "pixels" is (batch, window, 3, crop, crop) in that precision, the output "vectors" is
    (batch, window / tubelet, d) float32; the batch is dynamic. The residual stream, the norms and
    the rotary tables are float32 in every precision. Exporting the full ViT-g takes minutes and
    twice the memory of its weights.

    Args:
        checkpoint: as returned by `open_checkpoint`.
        path: path of the .onnx file.
        window: sampled frames per window; by default as in training.
        precision: precision of the matrix products.

    Raises:
        ValueError: the window is not a multiple of the tubelet.
        CheckpointError: the weights cannot be used.
    """
    architecture = checkpoint.architecture
    frames = architecture.frames if window is None else window
    dtype = DTYPES[precision]
    encoder = make_transformer(architecture, checkpoint.weights(), frames, dtype)
    # Two windows, because the exporter would treat a batch of one as fixed.
    pixels = torch.zeros((2, frames, 3, architecture.crop, architecture.crop), dtype=dtype)
    torch.onnx.export(
        encoder,
        (pixels,),
        path,
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={"pixels": {0: torch.export.Dim("batch", min=1)}},
        opset_version=_OPSET,
        external_data=True,
        verbose=False,
    )
