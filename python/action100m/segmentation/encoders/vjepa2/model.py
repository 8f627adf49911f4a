"""V-JEPA 2 as a window model: frames are prepared once, windows are embedded in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from action100m.config import Attention, Precision
from action100m.segmentation import kernels
from action100m.segmentation.batching import OutOfDeviceMemoryError
from action100m.segmentation.encoders.vjepa2.architecture import Architecture
from action100m.segmentation.encoders.vjepa2.attention import (
    fused_attention,
    require_attention,
    use_attention,
)
from action100m.segmentation.encoders.vjepa2.checkpoint import VJepa2Checkpoint
from action100m.segmentation.encoders.vjepa2.device import device_errors, find_device
from action100m.segmentation.encoders.vjepa2.float8 import use_float8
from action100m.segmentation.encoders.vjepa2.graphs import GraphedForward
from action100m.segmentation.encoders.vjepa2.peak import matrix_rate
from action100m.segmentation.encoders.vjepa2.preprocess import preprocess
from action100m.segmentation.encoders.vjepa2.transformer import make_transformer
from action100m.trace import current_trace, span
from action100m.video import check_pixels

Forward = Callable[[torch.Tensor], torch.Tensor]
"""Maps (b, window, 3, crop, crop) prepared frames to (b, window / tubelet, d) float32."""

_log = logging.getLogger(__name__)

_VERSION = 2  # of everything here that affects the results
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}


class VJepa2Model:
    """A WindowModel around a forward pass in PyTorch or TensorRT; see `open_vjepa2`.

    Attributes:
        name: name of the encoder.
        identity: weights, precision, version and windows: what determines the results, except for
            the choice of kernels.
        window: sampled frames per window.
        stride: sampled frames from the start of one window to that of the next.
        tubelet: sampled frames per vector.
        dimension: d, the length of a vector.
        short_side: frame size at which frames are not resampled.
        batch: maximum number of windows at once.
        device: device of the prepared frames.
    """

    def __init__(
        self,
        make_forward: Callable[[], Forward],
        architecture: Architecture,
        *,
        name: str,
        identity: str,
        device: torch.device,
        dtype: torch.dtype,
        window: int,
        stride: int,
        batch: int,
    ) -> None:
        if stride < 1 or batch < 1:
            raise ValueError(f"stride {stride} and batch {batch} must be at least 1.")
        architecture.tubelets(window)  # raises if the window is not a multiple of the tubelet
        self.name = name
        self.identity = f"{name}/{_VERSION} {identity} {window}/{stride}"
        self.window = window
        self.stride = stride
        self.tubelet = architecture.tubelet
        self.dimension = architecture.dimension
        self.short_side = architecture.short_side
        self.batch = batch
        self.device = device
        self._make_forward = make_forward
        self._forward: Forward | None = None
        self._architecture = architecture
        self._tera_operations = architecture.operations(window) / 1e12
        self._dtype = dtype
        self._uploads = torch.cuda.Stream(device) if device.type == "cuda" else None

    def load(self) -> None:
        """Load the weights and, on a GPU, encode black frames, so that errors appear at once.

        Raises:
            CheckpointError: the weights cannot be used.
            OutOfDeviceMemoryError: not even one window fits.
            RuntimeError: the device cannot compute it.
        """
        with device_errors(self.device):
            if current_trace() is not None:  # before the weights take the memory
                matrix_rate(self.device, self._dtype)
            self._forward = self._make_forward()
        if self.device.type != "cuda":
            return
        if kernels.COMPILED_FOR is None:
            _log.warning("This build has no CUDA kernels: frames are prepared on the CPU.")
        self.try_out()

    def try_out(self) -> None:
        """Encode black frames in a full batch, in a smaller one, and alone.

        PyTorch compiles for these shapes. Otherwise, the last windows of a video would stop all
        other videos while it compiles.
        """
        side = self.short_side
        window = self.prepare(np.zeros((self.window, side, side, 3), np.uint8))
        for windows in sorted({self.batch, max(1, self.batch - 1), 1}, reverse=True):
            try:
                self.embed([window] * windows)
            except OutOfDeviceMemoryError:  # batches are halved while videos are encoded
                if windows == 1:
                    raise

    def prepare(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Preprocess frames on the device, each of them once.

        Args:
            pixels: (b, h, w, 3) uint8 RGB.

        Returns:
            (b, 3, crop, crop).

        Raises:
            TypeError: pixels are not uint8.
            ValueError: pixels have another shape.
        """
        check_pixels(pixels)
        # Not on the stream that encodes, where a copy would wait for the windows before it.
        with device_errors(self.device), torch.no_grad(), torch.cuda.stream(self._uploads):
            prepared = preprocess(pixels, self._architecture, self._dtype, self.device)
            if self._uploads is not None:
                self._uploads.synchronize()
                # It is read, and its memory given back, on the stream that encodes.
                prepared.record_stream(torch.cuda.default_stream(self.device))
        return prepared

    def empty(self, frames: int, like: torch.Tensor) -> torch.Tensor:
        """Return an uninitialised buffer for `frames` prepared frames."""
        with device_errors(self.device):
            return like.new_empty((frames, *like.shape[1:]))

    def write(self, buffer: torch.Tensor, place: int, frames: torch.Tensor) -> None:
        """Copy prepared frames into a buffer, from frame number `place` of it on."""
        with device_errors(self.device):
            buffer[place : place + len(frames)] = frames

    def embed(self, windows: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Encode windows and average their tokens over space.

        Args:
            windows: b windows of prepared frames, each (window, 3, crop, crop).

        Returns:
            (b, window / tubelet, d) float32.

        Raises:
            ValueError: the shape of a window is wrong.
            OutOfDeviceMemoryError: the windows do not fit into memory at once.
        """
        crop = self._architecture.crop
        shape = (self.window, 3, crop, crop)
        for window in windows:
            if tuple(window.shape) != shape:
                raise ValueError(
                    f"A window must have shape {shape}, not {tuple(window.shape)}: this model "
                    f"takes {self.window} frames of {crop} x {crop} pixels."
                )
        if not windows:
            return np.empty((0, self.window // self.tubelet, self.dimension), np.float32)
        assert self._forward is not None, "not loaded"
        work = {"windows": len(windows), "TFLOP": len(windows) * self._tera_operations}
        with span("embed", **work), device_errors(self.device), torch.no_grad():
            vectors: NDArray[np.float32] = self._forward(torch.stack(list(windows))).cpu().numpy()
        return vectors


def open_vjepa2(
    checkpoint: VJepa2Checkpoint,
    *,
    device: str,
    precision: Precision = "bf16",
    window: int | None = None,
    stride: int = 8,
    batch: int = 4,
    attention: Attention = "cudnn",
    compiled: bool = False,
    graphed: bool = False,
) -> VJepa2Model:
    """Create the encoder of a checkpoint in PyTorch; `load` reads its weights later.

    Args:
        checkpoint: as returned by `open_checkpoint`.
        device: PyTorch's name of the device: "cuda", "cuda:1", "cpu".
        precision: precision of the matrix products. "fp8" computes the linear layers in 8 bits and
            the attention in bf16.
        window: sampled frames per window; by default as in training.
        stride: sampled frames from the start of one window to that of the next.
        batch: maximum number of windows at once.
        attention: the fused attention kernel on a CUDA device, except for float32, which has only
            one: cuDNN's, PyTorch's FlashAttention 2, or FlashAttention 3 or 4, which are packages.
        compiled: whether to fuse the operations between the products (torch.compile).
        graphed: whether to replay CUDA graphs, one for each batch size.

    Raises:
        ValueError: the device, the precision or the attention kernel is not available, or the
            window is not a multiple of the tubelet.
    """
    place = find_device(device, precision)
    require_attention(attention, place)
    if graphed and place.type != "cuda":
        raise ValueError(f"CUDA graphs need a CUDA device, not {device}.")
    architecture = checkpoint.architecture
    frames = architecture.frames if window is None else window
    architecture.tubelets(frames)

    def forward() -> Forward:
        return make_forward(
            architecture,
            checkpoint.weights(place),
            frames=frames,
            precision=precision,
            attention=attention,
            compiled=compiled,
            graphed=graphed,
        )

    return VJepa2Model(
        forward,
        architecture,
        name="vjepa2",
        identity=f"{checkpoint.identity} {precision}",
        device=place,
        dtype=DTYPES[precision],
        window=frames,
        stride=stride,
        batch=batch,
    )


def make_forward(
    architecture: Architecture,
    weights: Mapping[str, torch.Tensor],
    *,
    frames: int,
    precision: Precision,
    attention: Attention = "cudnn",
    compiled: bool = False,
    graphed: bool = False,
) -> Forward:
    """Create the forward pass on the device of the weights; see `open_vjepa2` for arguments."""
    encoder = make_transformer(architecture, weights, frames, DTYPES[precision])
    for block in encoder.blocks:
        if precision == "fp8":
            use_float8(block)
        if compiled:  # block by block, so that one compilation serves all blocks
            block.compile()
    if encoder.tables.device.type != "cuda":
        return encoder
    use_attention(attention)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        with fused_attention(attention, DTYPES[precision]):
            vectors: torch.Tensor = encoder(pixels)
        return vectors

    return GraphedForward(forward) if graphed else forward
