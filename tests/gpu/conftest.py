from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def needs_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} finds no CUDA device here")
