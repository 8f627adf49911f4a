from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)

from action100m.segmentation.encoders.vjepa2 import open_checkpoint  # noqa: E402
from action100m.segmentation.encoders.vjepa2.onnx import export_onnx  # noqa: E402

# PyTorch's exporter warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = {"float32": 1e-5, "fp16": 5e-3}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return checkpoints.save_vjepa2(tmp_path_factory.mktemp("tiny"))


def run(path: Path, pixels: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (vectors,) = session.run(["vectors"], {"pixels": pixels})
    return vectors


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_vectors_of_onnx_runtime_equal_those_of_transformers(
    tiny: Path, tmp_path: Path, precision: Any
) -> None:
    path = tmp_path / "encoder.onnx"
    export_onnx(open_checkpoint(str(tiny)), path, precision=precision)
    rival = checkpoints.make_vjepa2()
    for batch in (1, 3):
        pixels = torch.randn((batch, 8, 3, 64, 64), generator=torch.Generator().manual_seed(batch))
        given = pixels.numpy().astype(np.float16 if precision == "fp16" else np.float32)
        vectors = run(path, given)
        assert vectors.shape == (batch, 4, 96)
        assert vectors.dtype == np.float32
        truth = checkpoints.pooled(rival, pixels)
        np.testing.assert_allclose(vectors, truth, atol=TOLERANCE[precision])


def test_attention_is_one_operator_which_cannot_run_unfused(tiny: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    export_onnx(checkpoint, tmp_path / "encoder.onnx")
    operators = [node.op_type for node in onnx.load(tmp_path / "encoder.onnx").graph.node]
    assert operators.count("Attention") == checkpoint.architecture.layers
    assert "Softmax" not in operators


def test_bfloat16_exports_a_valid_model_with_external_weights(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    export_onnx(open_checkpoint(str(tiny)), path, window=4, precision="bf16")
    onnx.checker.check_model(path, full_check=True)
    (given,), (result,) = (
        list(values) for values in (onnx.load(path).graph.input, onnx.load(path).graph.output)
    )
    assert given.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16
    sizes = [axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert sizes == [0, 4, 3, 64, 64]
    assert result.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert (tmp_path / "encoder.onnx.data").stat().st_size > path.stat().st_size
