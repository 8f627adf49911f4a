from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "transformers", "torchvision"):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

import tiny_models  # noqa: E402, I001 - before transformers
import torch  # noqa: E402
import transformers  # noqa: E402

from action100m.config import TransformersConfig  # noqa: E402
from action100m.inference import Clip, Message, Request, Sampling, Text  # noqa: E402
from action100m.inference.template import ChatTemplate  # noqa: E402
from action100m.inference.transformers.loading import load  # noqa: E402
from action100m.inference.transformers.prompts import read  # noqa: E402


def test_only_pixels_are_rounded_to_the_precision_of_the_model(tmp_path: Path) -> None:
    folder = str(tiny_models.save_qwen3_vl(tmp_path))
    config = TransformersConfig(engine="transformers", model=folder, device="cpu", precision="bf16")
    loaded = load(config)
    processor = transformers.Qwen2_5_VLProcessor(  # which, unlike Qwen3-VL's, gives seconds
        loaded.processor.image_processor,
        loaded.tokenizer,
        transformers.Qwen2VLVideoProcessor(patch_size=8),
        chat_template=loaded.processor.chat_template,
    )
    loaded = replace(loaded, processor=processor, template=ChatTemplate(processor, sees=True))
    clip = Clip([np.zeros((64, 64, 3), np.uint8)] * 4, [0.16 * k for k in range(4)])
    request = Request("1", (Message("user", (clip, Text("What?"))),), Sampling())
    tensors = read(loaded, request).tensors
    assert tensors["pixel_values_videos"].dtype == torch.bfloat16
    assert tensors["second_per_grid_ts"].tolist() == pytest.approx([0.32], rel=1e-6)
