"""Language models as text encoders: hidden states of some of their layers, side by side.

Families take several layers of Qwen3 (Yang et al. 2025, arXiv:2505.09388) or of Mistral Small 3, or the last
but one. What lies behind the last layer taken is not read; nor are a vision tower and the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.mistral.configuration_mistral import MistralConfig
from transformers.models.mistral.modeling_mistral import MistralModel
from transformers.models.mistral3.configuration_mistral3 import Mistral3Config
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from loratui.errors import BaseModelError
from loratui.families.encoders import part_of
from loratui.families.loading import assemble, check_header, read_json, weight_files
from loratui.families.original import Tensors, count_blocks, read_plain, small_or_bf16
from loratui.families.sources import Place, TextPart

_FIRST = "layers.0.self_attn.q_proj.weight"
_CONFIGS: dict[str, Any] = {"qwen3": Qwen3Config, "mistral": MistralConfig, "mistral3": Mistral3Config}
_HEAD = 128
"""Width of Mistral's heads, which no shape tells."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A language model that a family conditions on.

    Attributes:
        part: where it is found.
        model: its class in transformers, without head.
        config: the class of its settings.
        layers: whose hidden states are taken; 0 is the embedding.
        rope_theta: of files, which do not tell.
        eps: of the norms of files.
        system: the system message; empty for none.
        plain: the whole chat, for tokenizers that come without a template.
        thinking: the model may think before it answers; else an empty thought stands in its answer.
    """

    part: TextPart
    model: Any
    config: Any
    layers: tuple[int, ...]
    rope_theta: float
    eps: float
    system: str
    plain: str
    thinking: bool = False


def qwen3(folder: str, tokenizer: str, layers: tuple[int, ...], thinking: bool = False) -> Chat:
    """Qwen3, which is told not to think unless `thinking`."""
    thought = "" if thinking else "<think>\n\n</think>\n\n"
    return Chat(
        part_of("Qwen3", folder, tokenizer),
        Qwen3Model, Qwen3Config, layers, 1e6, 1e-6, "",
        f"<|im_start|>user\n{{}}<|im_end|>\n<|im_start|>assistant\n{thought}", thinking,
    )  # fmt: skip


def mistral(folder: str, tokenizer: str, layers: tuple[int, ...], system: str) -> Chat:
    """Mistral Small 3, alone or with the vision tower of 3.1 and 3.2."""
    return Chat(
        part_of("Mistral", folder, tokenizer),
        MistralModel, MistralConfig, layers, 1e9, 1e-5, system,
        f"<s>[SYSTEM_PROMPT]{system}[/SYSTEM_PROMPT][INST]{{}}[/INST]",
    )  # fmt: skip


def width(place: Place) -> int:
    """Features of one layer."""
    if place.folder is not None:
        config = read_json(place.folder / "config.json")
        return int(config.get("text_config", config).get("hidden_size") or 0)
    assert place.file is not None
    info = check_header(place.file).tensors.get(place.prefix + _FIRST)
    return info.shape[1] if info is not None else 0


def depth(place: Place) -> int:
    """Layers; 0 where nothing tells."""
    if place.folder is not None:
        config = read_json(place.folder / "config.json")
        return int(config.get("text_config", config).get("num_hidden_layers") or 0)
    assert place.file is not None
    start = f"{place.prefix}layers."
    found = [n[len(start) :].split(".")[0] for n in check_header(place.file).tensors if n.startswith(start)]
    return 1 + max((int(n) for n in found if n.isdigit()), default=-1)


def load_encoder(chat: Chat, place: Place) -> nn.Module:
    """A frozen language model up to the last layer that is taken, without its final norm.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    last, title = chat.layers[-1], f"{chat.part.title} text encoder"
    if place.folder is not None:
        files = weight_files(place.folder)
        names = [name for file in files for name in check_header(file).tensors]
        prefix = next((n.removesuffix(_FIRST) for n in names if n.endswith(_FIRST)), "")
        config = read_json(place.folder / "config.json")
        settings = _CONFIGS[config["model_type"]].from_dict(config).get_text_config()
    else:
        assert place.file is not None
        files, prefix, settings = [place.file], place.prefix, None

    def taken(name: str) -> bool:
        words = name.removeprefix(prefix).split(".")
        return words[0] == "embed_tokens" or (words[0] == "layers" and int(words[1]) < last)

    tensors = read_plain(files, prefix, taken)
    try:
        settings = settings or chat.config(**infer(chat, tensors))
    except KeyError as error:
        raise BaseModelError(f"The {title} lacks the tensor {error}.", "Download it again.") from error
    if settings.num_hidden_layers < last:
        raise BaseModelError(
            f"The {title} has {settings.num_hidden_layers} layers and {last} are needed.",
            "It is of another model than the base was trained with.",
        )
    settings.num_hidden_layers = last
    if getattr(settings, "layer_types", None):
        settings.layer_types = settings.layer_types[:last]

    def build() -> nn.Module:
        module: nn.Module = chat.model(settings)
        module.norm = nn.Identity()  # so that the last state is as the layer gives it
        return module

    return assemble(build, tensors, small_or_bf16(tensors), title)


def infer(chat: Chat, tensors: Tensors) -> dict[str, Any]:
    """Settings from the shapes of a file's tensors.

    Raises:
        KeyError: a tensor is missing.
    """
    query, key = (tensors[f"layers.0.self_attn.{n}_proj.weight"] for n in "qk")
    norm = tensors.get("layers.0.self_attn.q_norm.weight")
    head = norm.shape[0] if norm is not None else _HEAD
    vocabulary, features = tensors["embed_tokens.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": features,
        "intermediate_size": tensors["layers.0.mlp.gate_proj.weight"].shape[0],
        "num_hidden_layers": count_blocks(tensors, "layers."),
        "num_attention_heads": query.shape[0] // head,
        "num_key_value_heads": key.shape[0] // head,
        "head_dim": head,
        "rms_norm_eps": chat.eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": chat.rope_theta},
        "sliding_window": None,
    }


def written(chat: Chat, tokenizer: Any, caption: str) -> str:
    """The caption in its chat."""
    if not getattr(tokenizer, "chat_template", None):
        return chat.plain.format(caption)
    if not chat.system:
        messages: list[dict[str, Any]] = [{"role": "user", "content": caption}]
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=chat.thinking
            )
        )
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in (("system", chat.system), ("user", caption.replace("[IMG]", "")))
    ]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))


def stacked_states(chat: Chat, encoder: Any, tokenizer: Any, captions: Sequence[str], length: int) -> Tensor:
    """Hidden states of captions filled up to `length` tokens, [B, L, layers * D], the filling's too.

    Args:
        chat: the model.
        encoder: as `load_encoder` gives it.
        tokenizer: its own.
        captions: longer ones are cut off.
        length: L.
    """
    texts = [written(chat, tokenizer, caption) for caption in captions]
    begun = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
    given = tokenizer(
        texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt",
        add_special_tokens=not begun,
    )  # fmt: skip
    device = next(encoder.parameters()).device
    with torch.no_grad():
        states = encoder(
            input_ids=given.input_ids.to(device), attention_mask=given.attention_mask.to(device),
            output_hidden_states=True, use_cache=False,
        ).hidden_states  # fmt: skip
    return torch.cat([states[n] for n in chat.layers], dim=-1)


def lengths(chat: Chat, tokenizer: Any, captions: Sequence[str], length: int) -> list[int]:
    """Tokens of each caption in its chat, at most `length`; what follows them is filling."""
    texts = [written(chat, tokenizer, caption) for caption in captions]
    begun = bool(tokenizer.bos_token) and texts[0].startswith(tokenizer.bos_token)
    found = tokenizer(texts, max_length=length, truncation=True, add_special_tokens=not begun).input_ids
    return [len(ids) for ids in found]
