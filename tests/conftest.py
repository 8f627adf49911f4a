"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The time that an example takes is meaningless on a shared machine.
settings.register_profile(
    "shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("shared")

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips beside a developer's checkout."""
    folder = Path(os.environ.get("ACTION100M_SHARED", _ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} with the real clips is not here")
    return folder
