"""Qwen2.5-VL as a text encoder (Bai et al. 2025, arXiv:2502.13923): its language model alone, read from
folders or files; pictures are never shown to it, so that its vision tower and its head are left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLConfig, Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel

from loratui.errors import BaseModelError
from loratui.families.encoders import part_of
from loratui.families.loading import assemble, read_json, weight_files
from loratui.families.original import Tensors, count_blocks, read_plain, small_or_bf16
from loratui.families.sources import Place, TextPart

_STARTS = ("model.language_model.", "language_model.model.", "language_model.", "model.", "")
"""What stands before the language model's names: each version of transformers saves it otherwise."""
_KEPT = ("embed_tokens.", "layers.", "norm.")
_HEAD = 128
"""Width of a head, which no shape tells; it is the same in all sizes."""


def part(folder: str, tokenizer: str) -> TextPart:
    """Qwen2.5-VL as a part of a family."""
    return part_of("Qwen2_5_VL", folder, tokenizer)


def load_encoder(place: Place) -> nn.Module:
    """A frozen language model from a folder with config.json or from a file's tensors.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    try:
        if place.folder is not None:
            config = read_json(place.folder / "config.json")
            tensors = _language(read_plain(weight_files(place.folder)))
            settings = Qwen2_5_VLConfig.from_dict(config).text_config
        else:
            assert place.file is not None
            tensors = _language(read_plain([place.file], place.prefix))
            settings = Qwen2_5_VLTextConfig.from_dict(infer(tensors))
    except KeyError as error:
        raise BaseModelError(
            f"The Qwen2.5-VL text encoder lacks the tensor {error}.", "Download it again, it is incomplete."
        ) from error
    return assemble(
        lambda: Qwen2_5_VLTextModel(settings), tensors, small_or_bf16(tensors), "Qwen2.5-VL text encoder"
    )


def _language(tensors: Tensors) -> Tensors:
    """The language model's tensors under its own names."""
    start = next((s for s in _STARTS if f"{s}embed_tokens.weight" in tensors), "")
    named = {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
    return {n: t for n, t in named.items() if n.startswith(_KEPT)}


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings from the shapes of the language model's tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    query, key = (tensors[f"layers.0.self_attn.{n}_proj.weight"] for n in "qk")
    vocabulary, width = tensors["embed_tokens.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": tensors["layers.0.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": count_blocks(tensors, "layers."),
        "num_attention_heads": query.shape[0] // _HEAD,
        "num_key_value_heads": key.shape[0] // _HEAD,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    }


def last_hidden_states(encoder: Any, tokenizer: Any, text: str, length: int) -> Tensor:
    """Features of a text that is cut off at `length` tokens, [L, D]; nothing is filled up.

    Args:
        encoder: the language model.
        tokenizer: its own.
        text: with the tokens of the chat around it.
        length: the most tokens.
    """
    given = tokenizer([text], max_length=length, truncation=True, return_tensors="pt")
    device = next(encoder.parameters()).device
    with torch.no_grad():
        found: Tensor = encoder(
            input_ids=given.input_ids.to(device),
            attention_mask=given.attention_mask.to(device),
            use_cache=False,
        ).last_hidden_state
    return found[0]
