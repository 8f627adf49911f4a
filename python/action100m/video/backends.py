"""The decoding backends, and checks that they work on this machine."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from action100m.errors import ConfigError
from action100m.extras import is_installed

if TYPE_CHECKING:  # a decoding process needs no configuration
    from action100m.config import Backend


def require_backend(backend: Backend) -> None:
    """Check that a backend works on this machine, without loading it.

    Raises:
        ConfigError: DALI is not installed, there is no GPU, or its driver cannot decode video.
    """
    if backend == "pyav":
        return
    if not is_installed("nvidia.dali"):
        raise ConfigError(
            "Decoding with DALI requires DALI: pip install 'action100m[dali]' "
            "(on Linux; the package is nvidia-dali-cuda130)."
        )
    if backend == "dali-gpu":
        _require_gpu()


def _require_gpu() -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise ConfigError("Decoding on the GPU needs NVIDIA's driver: none was found.") from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise ConfigError("Decoding on the GPU needs a GPU: CUDA shows none to this process.")
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        raise ConfigError(
            "Decoding on the GPU needs libnvcuvid.so.1, which is missing from this driver: in "
            "a container, set NVIDIA_DRIVER_CAPABILITIES=video,compute,utility."
        ) from None
