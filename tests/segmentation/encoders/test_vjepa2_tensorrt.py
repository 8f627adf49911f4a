from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "python/action100m/segmentation/encoders/vjepa2/tensorrt.py"
# The names of TensorRT objects in the source.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "config": "IBuilderConfig",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "logger": "Logger",
}


def dotted(node: ast.expr) -> str | None:
    """trt.Logger.WARNING -> Logger.WARNING, builder.create_network -> Builder.create_network."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or not parts:
        return None
    if node.id == "trt":
        return ".".join(parts)
    return ".".join([CLASSES[node.id], *parts]) if node.id in CLASSES else None


def uses() -> Iterator[tuple[str, int | None]]:
    """What the source uses from TensorRT, and with how many arguments."""
    for node in ast.walk(ast.parse(SOURCE.read_text("utf-8"))):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            assert not node.keywords
            assert not any(isinstance(argument, ast.Starred) for argument in node.args)
            last = name.rsplit(".", maxsplit=1)[-1]
            yield (f"{name}.__init__" if last[0].isupper() else name), len(node.args)
        elif isinstance(node, ast.Attribute) and (name := dotted(node)):
            yield name, None


def argument_counts(documentation: str, name: str) -> set[int]:
    """How many arguments the signatures in a docstring take, without self."""
    counts: set[int] = set()
    for arguments in re.findall(rf"^(?:\d+\. )?{name}\((.*)\) ->", documentation, re.MULTILINE):
        given = re.sub(r"\[[^\]]*\]|<[^>]*>", "", arguments).split(", ")[1:]
        required = sum("=" not in argument for argument in given)
        counts |= set(range(required, len(given) + 1))
    return counts


def test_every_call_exists_in_the_real_bindings() -> None:
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("tensorrt_bindings (pip install --no-deps tensorrt-cu13-bindings) is missing")
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to make empty libraries with")
    from tensorrt_bindings_probe import read_documentation  # noqa: PLC0415

    found = set(uses())
    names = {name for name, _ in found}
    assert {
        "Builder.__init__",
        "OnnxParser.parse_from_file",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.execute_async_v3",
    } <= names
    documentation = read_documentation(sorted(names))
    for name, arguments in sorted(found, key=str):
        text = documentation[name]
        assert text is not None, f"TensorRT {documentation['version']} has no {name}"
        if arguments is not None:
            last = name.rsplit(".", maxsplit=1)[-1]
            assert arguments in argument_counts(text, last), f"{name}: {text}"


def test_requesting_a_missing_gpu_is_an_error(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt_bindings") is None or shutil.which("cc") is None:
        pytest.skip("no tensorrt_bindings (pip install --no-deps tensorrt-cu13-bindings), or no cc")
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() > 6:
        pytest.skip("the GPU is there")
    from tensorrt_bindings_probe import run_with_bindings  # noqa: PLC0415

    code = """
import sys, tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from pathlib import Path
from action100m.segmentation.encoders.vjepa2.tensorrt import build_engine
for device in ("cuda:6", "cpu"):
    try:
        build_engine(None, Path("nowhere"), device=device)
    except ValueError as error:
        print(error)
"""
    absent, wrong = run_with_bindings(["-c", code]).splitlines()
    assert absent.startswith("There is no device 'cuda:6'")
    assert wrong == "TensorRT needs an NVIDIA GPU, not 'cpu'."


def test_an_engine_with_another_description_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    engine_key = importlib.import_module("action100m.segmentation.encoders.vjepa2.engine_key")
    here = engine_key.EngineKey(1, "sha256:12", 64, 4, "bf16", "11.4.0", "NVIDIA H200", "9.0")
    path = tmp_path / "vjepa2.engine"
    path.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(here)), "utf-8")
    assert engine_key.read_key(path) == here
    engine_key.check_key(here, here, path)
    for name, value in {"gpu": "NVIDIA A100", "tensorrt": "10.1", "weights": "sha256:34"}.items():
        other = dataclasses.replace(here, **{name: value})
        with pytest.raises(engine_key.EngineError, match=f"built for {name} {value}, not for"):
            engine_key.check_key(other, here, path)


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_an_engine_without_description_is_refused(tmp_path: Path, text: str | None) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    engine_key = importlib.import_module("action100m.segmentation.encoders.vjepa2.engine_key")
    if text is not None:
        (tmp_path / "vjepa2.json").write_text(text, "utf-8")
    with pytest.raises(engine_key.EngineError, match="action100m tensorrt build"):
        engine_key.read_key(tmp_path / "vjepa2.engine")


def test_signatures_are_read_with_defaults_and_overloads() -> None:
    text = "f(*args, **kwargs)\n1. f(self: a.B, x: int) -> int\n\n2. f(self: B, x: list[int, int], "
    text += "y: E = <E.A: 2>, z: int = 3) -> None\n"
    assert argument_counts(text, "f") == {1, 2, 3}
    assert argument_counts("f(self: B) -> None", "f") == {0}
