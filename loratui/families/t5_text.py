"""T5 text encoders (Raffel et al. 2020, arXiv:1910.10683): read from folders or files, and from captions to
features. Families condition on its last hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from loratui.errors import BaseModelError
from loratui.families.encoders import part_of
from loratui.families.loading import assemble, read_json, weight_files
from loratui.families.original import read_plain, small_or_bf16
from loratui.families.sources import Place, TextPart


def part(folder: str, tokenizer: str) -> TextPart:
    """T5 as a part of a family."""
    return part_of("T5", folder, tokenizer)


def load_encoder(place: Place) -> nn.Module:
    """A frozen T5 encoder from a folder with config.json or from a file's tensors.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    if place.folder is not None:
        files = weight_files(place.folder)
        config = read_json(place.folder / "config.json")
        tensors = read_plain(files)
    else:
        assert place.file is not None
        tensors = read_plain([place.file], place.prefix)
        config = infer(tensors)
    if "shared.weight" not in tensors and "encoder.embed_tokens.weight" in tensors:
        tensors["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    tensors = {n: t for n, t in tensors.items() if n.startswith(("encoder.", "shared."))}
    tensors["encoder.embed_tokens.weight"] = tensors.get("shared.weight", torch.empty(0))
    settings = T5Config.from_dict(config)

    def build() -> T5EncoderModel:
        module = T5EncoderModel(settings)
        # Of its own until both are there, so that each name is asked for once.
        module.encoder.embed_tokens = nn.Embedding(settings.vocab_size, settings.d_model)
        return module

    dtype = small_or_bf16(tensors)
    module: Any = assemble(build, tensors, dtype, "T5 text encoder", ("encoder.embed_tokens",))
    module.encoder.embed_tokens = module.shared
    return module


def infer(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Settings of a v1.1 encoder (gated GELU, untied) from the shapes of its tensors."""
    bias = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    query = tensors["encoder.block.0.layer.0.SelfAttention.q.weight"]
    layers = 1 + max(int(n.split(".")[2]) for n in tensors if n.startswith("encoder.block."))
    gated = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in tensors
    wide = "wi_0" if gated else "wi"
    shared = tensors.get("shared.weight", tensors.get("encoder.embed_tokens.weight"))
    if shared is None:
        raise BaseModelError("The T5 text encoder has no embeddings.", "Download it again, it is incomplete.")
    return {
        "d_model": query.shape[1],
        "d_kv": query.shape[0] // bias.shape[1],
        "num_heads": bias.shape[1],
        "relative_attention_num_buckets": bias.shape[0],
        "d_ff": tensors[f"encoder.block.0.layer.1.DenseReluDense.{wide}.weight"].shape[0],
        "num_layers": layers,
        "vocab_size": shared.shape[0],
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "tie_word_embeddings": False,
    }


def load_tokenizer(folder: Path) -> Any:
    """Its tokenizer, from tokenizer.json or spiece.model.

    Raises:
        BaseModelError: it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of several libraries, by what is in the folder
        raise BaseModelError(
            f"The tokenizer in {folder} cannot be read: {str(error).splitlines()[0]}.",
            "Take the tokenizer folder of a diffusers model of the same family.",
        ) from error


def last_hidden_states(
    encoder: Any, tokenizer: Any, captions: Sequence[str], length: int, masked: bool = False
) -> Tensor:
    """Features of captions filled up to `length` tokens, [B, L, D].

    Args:
        encoder: T5.
        tokenizer: its own.
        captions: longer ones are cut off.
        length: L.
        masked: keep the filling out of the attention.
    """
    given = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    device = next(encoder.parameters()).device
    mask = given.attention_mask.to(device) if masked else None
    found: Tensor = encoder(given.input_ids.to(device), attention_mask=mask)[0]
    return found


def lengths(tokenizer: Any, captions: Sequence[str], length: int) -> list[int]:
    """Tokens of each caption, its end included."""
    found = tokenizer(list(captions), max_length=length, truncation=True).input_ids
    return [len(ids) for ids in found]
