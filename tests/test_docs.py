"""The Python examples in the documentation can at least be compiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_EXAMPLES = [
    pytest.param(example, id=f"{page.name}-{number}")
    for page in _PAGES
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
]


@pytest.mark.parametrize("example", _EXAMPLES)
def test_an_example_is_valid_python(example: str) -> None:
    compile(example, "example", "exec")
