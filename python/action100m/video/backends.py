"""What can decode, and whether it can do so here."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import Literal

from action100m.errors import ConfigError

Backend = Literal["pyav", "dali-cpu", "dali-gpu"]


def require_backend(backend: Backend) -> None:
    """Check that a backend can work here, without loading it.

    Raises:
        ConfigError: DALI is not installed, there is no GPU, or its driver decodes no video.
    """
    if backend == "pyav":
        return
    if not is_installed("nvidia.dali"):
        raise ConfigError(
            "Decoding with DALI needs it installed: pip install 'action100m[dali]' "
            "(on Linux; the package is nvidia-dali-cuda130)."
        )
    if backend == "dali-gpu":
        _require_gpu()


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not loaded."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it stands in
        return False


def _require_gpu() -> None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise ConfigError("Decoding on the GPU needs NVIDIA's driver: none is here.") from None
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise ConfigError("Decoding on the GPU needs one: CUDA shows none to this process.")
    try:
        ctypes.CDLL("libnvcuvid.so.1")
    except OSError:
        raise ConfigError(
            "Decoding on the GPU needs libnvcuvid.so.1, and the driver here comes without it: in "
            "a container set NVIDIA_DRIVER_CAPABILITIES=video,compute,utility."
        ) from None
