"""Write the tiny SmolVLM in llama.cpp's format, and run llama.cpp's own server on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import xllamacpp
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

import tiny_models

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.out_proj": "attn_out",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
}
_OTHERS = {
    "model.text_model.embed_tokens": "token_embd",
    "model.text_model.norm": "output_norm",
    "lm_head": "output",
    "model.connector.modality_projection.proj": "mm.model.fc",
    "model.vision_model.embeddings.patch_embedding": "v.patch_embd",
    "model.vision_model.embeddings.position_embedding": "v.position_embd",
    "model.vision_model.post_layernorm": "v.post_ln",
}


def write_gguf(folder: Path) -> tuple[Path, Path]:
    """Write the language model and the vision model of a tiny SmolVLM as two files in `folder`."""
    checkpoint = str(tiny_models.save_smolvlm(folder / "hf"))
    config = AutoConfig.from_pretrained(checkpoint)
    weights = AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict()
    words, eyes = folder / "tiny.gguf", folder / "mmproj.gguf"
    writer = gguf.GGUFWriter(str(words), "llama")
    _describe_text(writer, config.text_config, AutoTokenizer.from_pretrained(checkpoint))
    _write(writer, weights, vision=False)
    writer = gguf.GGUFWriter(str(eyes), "clip")
    _describe_vision(writer, config)
    _write(writer, weights, vision=True)
    return words, eyes


def _describe_text(writer: Any, config: Any, tokenizer: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(len(tokenizer))
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    special = set(tokenizer.get_added_vocab())
    kinds = [
        gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)


def _describe_vision(writer: Any, config: Any) -> None:
    vision = config.vision_config
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_vision_projector_type("idefics3")
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_preproc_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(config.text_config.hidden_size)
    writer.add_vision_projector_scale_factor(config.scale_factor)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)


def _write(writer: Any, weights: dict[str, Any], *, vision: bool) -> None:
    for name, tensor in weights.items():
        target = _name(name)
        if target.startswith(("v.", "mm.")) == vision:
            plain = target.endswith(".bias") or "norm" in target or "ln" in target
            half = np.float32 if plain or vision else np.float16
            writer.add_tensor(target, tensor.float().numpy().astype(half))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in _OTHERS:
        return f"{_OTHERS[stem]}.{kind}"
    seen = "v." if "vision" in stem else ""
    number, _, part = stem.split("layers.")[1].partition(".")
    return f"{seen}blk.{number}.{_LAYER[part]}.{kind}"


@contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """Run llama.cpp's server on the tiny SmolVLM; yield its URL."""
    words, eyes = write_gguf(folder)
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.mmproj.path = str(words), str(eyes)
    parameters.model_alias = {"tiny"}
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 8192, 2, False
    parameters.cpuparams.n_threads = 1
    parameters.use_jinja = False
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server
