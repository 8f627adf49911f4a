"""Figures are written the same way every time, and only as what their name says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from action100m.report.style import framed, save


def test_the_same_figure_gives_the_same_bytes_in_any_thread(tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        figure, axes = framed(4, 3, "Twice")
        axes.fill_between(np.arange(9), np.arange(9))
        path = tmp_path / f"{number}.svg"
        save(figure, path)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(4)))) == 1


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        save(framed(4, 3, "")[0], tmp_path / "chart.pdf")
