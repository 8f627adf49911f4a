from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from action100m.errors import ConfigError
from action100m.video import Decoder, require_backend


def test_pyav_is_always_available() -> None:
    require_backend("pyav")


def test_without_dali_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(ConfigError, match=r"pip install 'action100m\[dali\]'"):
        Decoder(backend="dali-cpu")


def test_requesting_a_gpu_without_one_is_an_error() -> None:
    pytest.importorskip("nvidia.dali", exc_type=ImportError)
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(ConfigError, match="needs NVIDIA's driver"):
            Decoder(backend="dali-gpu")
    else:
        pytest.skip("a driver is here")


def test_checking_for_dali_does_not_import_it() -> None:
    pytest.importorskip("nvidia.dali", exc_type=ImportError)
    code = (
        "import sys; from action100m.video import Decoder; Decoder(backend='dali-cpu');"
        "sys.exit('nvidia.dali' in sys.modules or 'av' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
