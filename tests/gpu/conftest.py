"""Skip the GPU tests, with a reason, if there is no GPU."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU is available")
