"""The decoding backends, and checks that they work on this machine."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Literal

from action100m.errors import ConfigError

Backend = Literal["pyav", "dali-cpu", "dali-gpu"]


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


def is_installed(module: str) -> bool:
    """Return whether a module can be found, without loading it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


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
