"""Print the signatures of TensorRT's real Python bindings as JSON, without its libraries.

The wheel of the bindings is small, that of the libraries is large: empty libraries with the few
symbols that the bindings need are enough to import them, but not to run anything.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

# Takes dotted attribute paths, prints their documentation.
_READ = """
import json, sys
import tensorrt_bindings as trt
out = {"version": trt.__version__}
for path in sys.argv[1:]:
    value = trt
    for part in path.split("."):
        value = getattr(value, part, None)
    out[path] = None if value is None else (value.__doc__ or "")
print(json.dumps(out))
"""


def read_documentation(paths: list[str]) -> dict[str, str | None]:
    """Return the docstrings of attributes such as "Builder.create_network"; None if missing."""
    return json.loads(run_with_bindings(["-c", _READ, *paths]))


def run_with_bindings(arguments: list[str]) -> str:
    """Return what Python prints with these arguments if `tensorrt_bindings` can be imported."""
    spec = find_spec("tensorrt_bindings")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    module = Path(spec.submodule_search_locations[0]) / "tensorrt.so"
    with tempfile.TemporaryDirectory() as folder:
        _make_libraries(module, Path(folder))
        environment = {**os.environ, "LD_LIBRARY_PATH": folder}
        command = [sys.executable, *arguments]
        result = subprocess.run(
            command, env=environment, capture_output=True, check=False, text=True
        )
    assert result.returncode == 0, result.stderr
    return result.stdout


def _make_libraries(module: Path, folder: Path) -> None:
    content = module.read_bytes()
    names = set(re.findall(rb"libnv\w+\.so\.\d+", content))
    symbols = set(
        re.findall(
            rb"\0((?:create|get|init)\w*(?:_INTERNAL|Registry|Version|InferPlugins))\0", content
        )
    )
    source = folder / "empty.c"
    source.write_text(
        "\n".join(f"void *{symbol.decode()}(void) {{ return 0; }}" for symbol in sorted(symbols))
    )
    for name in names:
        library = folder / name.decode()
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
