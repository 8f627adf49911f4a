from __future__ import annotations

import re
from importlib.metadata import metadata, requires
from pathlib import Path

import action100m
from action100m.extras import MODULES, is_installed

NAMES = {  # of packages whose module has another name
    "faiss-cpu": "faiss",
    "nvidia-dali-cuda130": "nvidia.dali",
    "scikit-learn": "sklearn",
    "tensorrt-cu13": "tensorrt",
}
DEVELOPERS = {"bench", "dev"}


def declared(extra: str) -> set[str]:
    """The modules of the packages that an extra requires, with those of the extras it includes."""
    modules: set[str] = set()
    for line in requires("action100m") or ():
        if not re.search(rf"extra == ['\"]{extra}['\"]", line):
            continue
        found = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line)
        assert found is not None
        name, inner = found.groups()
        if name == "action100m":
            for other in inner.split(","):
                modules |= declared(other)
        else:
            modules.add(NAMES.get(name, name.replace("-", "_")))
    return modules


def test_the_extras_are_those_of_the_package() -> None:
    extras = set(metadata("action100m").get_all("Provides-Extra") or ())
    assert extras - DEVELOPERS == set(MODULES)
    assert {extra: set(modules) for extra, modules in MODULES.items()} == {
        extra: declared(extra) for extra in MODULES
    }


def test_every_extra_that_a_message_names_exists() -> None:
    package = Path(action100m.__file__).parent
    named = [
        extra
        for path in (*package.rglob("*.py"), *package.rglob("*.toml"))
        for names in re.findall(r"action100m\[([\w,]+)\]", path.read_text())
        for extra in names.split(",")
    ]
    assert len(named) > 10
    assert set(named) <= set(MODULES)


def test_a_module_is_found_without_loading_it() -> None:
    assert is_installed("json")
    assert not is_installed("no_such_package")
    assert not is_installed("no_such_package.module")
