"""Make tiny random checkpoints of the captioners' and aggregators' real architectures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import checkpoints  # first: it lets torchvision be imported  # noqa: F401

_WORDS = [
    "A man cuts a long piece of wood with a saw on a bench.",
    "She pours the batter into a hot pan and turns it over.",
    '{"summary": {"brief": "N/A", "detailed": "Nothing moves."}, "action": {"actor": "a cook"}}',
    "Describe this video in detail. Describe this image in detail. user assistant system",
    "One.\n\nTwo.\n\n" * 20,  # llama.cpp needs an empty line to be one token before a picture
]
_CHAT = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{% if m['content'] is string %}"
    "{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'text' %}"
    "{{ c['text'] }}{% elif c['type'] == 'image' %}IMAGE{% else %}VIDEO{% endif %}{% endfor %}"
    "{% endif %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
_THINKING = _CHAT.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_TILES = [[1, 1], [1, 2], [2, 1], [2, 2], [1, 3], [3, 1], [1, 4], [4, 1]]
_BEGIN, _END, _START = "<|begin|>", "<|end|>", "<|start|>"


def tokenizer_of(
    *special: str, chat: str = _CHAT, end: str = _END, **more: Any
) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer of a few hundred tokens, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[_BEGIN, _END, _START, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_WORDS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BEGIN,
        eos_token=end,
        pad_token=end,
        chat_template=chat,
        **more,
    )


def _tokens(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _loud(model: Any) -> Any:
    """Return a model with weights so large that its answers differ between pictures."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.copy_(torch.randn(parameter.shape) * parameter.shape[-1] ** -0.5)
            elif "gate" in name:  # of Mllama's cross-attention, which is 0 at first
                parameter.fill_(0.5)
    return model


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.generation_config.eos_token_id = model.config.get_text_config().eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_qwen3(folder: Path, *, thinks: bool = False) -> Path:
    """Save a Qwen3: text; if it `thinks`, with the end of the published template."""
    tokenizer = tokenizer_of("<think>", "</think>", chat=_THINKING) if thinks else tokenizer_of()
    torch.manual_seed(1)
    # vLLM on a CPU needs heads of at least 32.
    config = transformers.Qwen3Config(**_TEXT, **_tokens(tokenizer), head_dim=32)
    return _save(folder, transformers.Qwen3ForCausalLM(config), tokenizer)


def save_gpt_oss(folder: Path) -> Path:
    """Save a GptOss: text, in Harmony's channels."""
    chat = _CHAT.replace("assistant\n{% endif %}", "assistant{% endif %}")
    special = ("<|channel|>", "<|message|>", "<|return|>")
    tokenizer = tokenizer_of(*special, chat=chat, end="<|return|>")
    torch.manual_seed(2)
    config = transformers.GptOssConfig(
        **_TEXT,
        **_tokens(tokenizer),
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=64,
    )
    return _save(folder, transformers.GptOssForCausalLM(config), tokenizer)


def save_smolvlm(folder: Path) -> Path:
    """Save a SmolVLM: images and videos."""
    chat = _CHAT.replace("IMAGE", "<image>").replace("VIDEO", "<video>")
    special = (
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
        "<video>",
    )
    rows = [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
    tokenizer = tokenizer_of(*special, *rows, chat=chat)
    torch.manual_seed(3)
    config = transformers.SmolVLMConfig(
        text_config={"model_type": "llama", **_TEXT, **_tokens(tokenizer)},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    sizes = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(**sizes, do_image_splitting=False),
        tokenizer,
        transformers.SmolVLMVideoProcessor(
            **sizes, video_sampling={"max_frames": 64, "fps": 1, "video_size": {"longest_edge": 32}}
        ),
        image_seq_len=4,
        chat_template=chat,
    )
    return _save(folder, transformers.SmolVLMForConditionalGeneration(config), processor)


def save_qwen3_vl(folder: Path) -> Path:
    """Save a Qwen3-VL: images and videos."""
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    chat = _CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    chat = chat.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
    tokenizer = tokenizer_of(*names, chat=chat)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(list(names)), strict=True))
    torch.manual_seed(4)
    rope = {**_ROPE, "mrope_section": [8, 4, 4]}
    config = transformers.Qwen3VLConfig(
        text_config={**_TEXT, **_tokens(tokenizer), "head_dim": 32, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(patch_size=8, size=size),
        tokenizer,
        transformers.Qwen3VLVideoProcessor(
            patch_size=8, size={"shortest_edge": 256, "longest_edge": 64 * 64 * 8}
        ),
        chat_template=chat,
    )
    return _save(folder, _loud(transformers.Qwen3VLForConditionalGeneration(config)), processor)


def save_mllama(folder: Path) -> Path:
    """Save an Mllama, the architecture of Llama-3.2-Vision: images."""
    chat = _CHAT.replace("IMAGE", "<|image|>")
    tokenizer = tokenizer_of("<|image|>", "<|python_tag|>", chat=chat)
    torch.manual_seed(5)
    tokens = _tokens(tokenizer)
    # The embedding has a row for the image token; the head does not.
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    config = transformers.MllamaConfig(
        text_config={
            **_TEXT,
            **tokens,
            "cross_attention_layers": [1],
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "vision_output_dim": 64,
            "image_size": 28,
            "patch_size": 14,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [
                [1, 1],
                [1, 2],
                [2, 1],
                [2, 2],
                [1, 3],
                [3, 1],
                [1, 4],
                [4, 1],
            ],
        },
        image_token_index=image,
    )
    processor = transformers.MllamaProcessor(
        transformers.MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4),
        tokenizer,
        chat_template=chat,
    )
    return _save(folder, _loud(transformers.MllamaForConditionalGeneration(config)), processor)


def save_perception_lm(folder: Path) -> Path:
    """Save a PerceptionLM: images and videos."""
    chat = _CHAT.replace("IMAGE", "<|image|>").replace("VIDEO", "<|video|>")
    tokenizer = tokenizer_of(
        "<|image|>",
        "<|video|>",
        chat=chat,
        extra_special_tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
    )
    torch.manual_seed(6)
    config = transformers.PerceptionLMConfig(
        text_config={"model_type": "llama", **_TEXT, **_tokens(tokenizer)},
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": False,
            "num_classes": 0,
            "model_args": {
                "embed_dim": 64,
                "depth": 2,
                "num_heads": 4,
                "img_size": [56, 56],
                "ref_feat_shape": [4, 4],
                "init_values": 0.1,
                "global_pool": "",
                "use_post_transformer_norm": False,
            },
        },
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video|>"),
    )
    processor = transformers.PerceptionLMProcessor(
        transformers.PerceptionLMVideoProcessor(size={"height": 56, "width": 56}),
        transformers.PerceptionLMImageProcessor(
            tile_size=56, max_num_tiles=4, size={"height": 56, "width": 56}
        ),
        tokenizer,
        patch_size=14,
        pooling_ratio=2,
        chat_template=chat,
    )
    return _save(folder, transformers.PerceptionLMForConditionalGeneration(config), processor)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen3": save_qwen3,
    "gpt_oss": save_gpt_oss,
    "smolvlm": save_smolvlm,
    "qwen3_vl": save_qwen3_vl,
    "mllama": save_mllama,
    "perception_lm": save_perception_lm,
}
