"""Parts that tiny bases of the transformer families share: codecs, text encoders, tokenizers, all random."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch

from loratui.families.spec import FAMILIES, row_of

FLOW = tuple(spec.name for spec in FAMILIES if spec.flow)
"""Each has a module in tests/tiny_families, and by it a fixture `tiny_NAME`."""


def tiny(name: str) -> Any:
    """The module that makes a family's tiny base: `make(folder, seed) -> folder`, `pipeline()`."""
    return importlib.import_module(f"tiny_families.{name}")


ORIGINAL = tuple(name for name in FLOW if hasattr(tiny(name), "original"))
"""Families whose modules can also write the transformer in its original layout."""

VARIANTS = tuple((name, flag) for name in FLOW for flag in getattr(tiny(name), "VARIANTS", ()))
"""Families whose `make` and `pipeline` take a flag for a second model, of other inputs."""


def shake(module: torch.nn.Module, scale: float = 0.02) -> None:
    """Move zeros away from zero: layers that begin at zero would hide what is behind them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))


def codec(seed: int = 0, **changes: Any) -> Any:
    """A KL codec of factor 2."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(seed)
    return AutoencoderKL(
        **{
            "block_out_channels": (32, 32), "layers_per_block": 1, "norm_num_groups": 32, "sample_size": 16,
            "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
            **changes,
        }
    ).eval()  # fmt: skip


def clip_text(width: int, layers: int = 2, projection: int = 0, act: str = "quick_gelu") -> Any:
    """A CLIP text encoder, with a projection when `projection` is not 0."""
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, vocab_size=49408,
        num_attention_heads=max(1, width // 64), hidden_act=act, eos_token_id=2, bos_token_id=0,
        pad_token_id=1, projection_dim=projection or width,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def clip_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's tokenizer of characters."""
    from train_kit import byte_tokenizer

    byte_tokenizer(folder, pad)


def t5_text(width: int, seed: int = 0) -> Any:
    """A T5 v1.1 encoder of one layer."""
    from transformers.models.t5.configuration_t5 import T5Config
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    torch.manual_seed(seed + 7)
    config = T5Config(
        d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=160,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    return T5EncoderModel(config).eval()


def t5_tokenizer(folder: Path) -> None:
    """A T5 tokenizer whose pieces are characters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(chr(c), -3.0) for c in range(33, 127)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    save_tokenizer(
        tokenizer, folder, "T5TokenizerFast", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512, extra_ids=0,
    )  # fmt: skip


def save_tokenizer(tokenizer: Any, folder: Path, kind: str, **settings: Any) -> None:
    """Write tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, **settings}))


def scheduler(folder: Path, **settings: Any) -> None:
    """The config of a flow scheduler."""
    folder.mkdir()
    known = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
    (folder / "scheduler_config.json").write_text(json.dumps(known | settings))


def index(folder: Path, family: str) -> None:
    """The packaged model_index.json of a family."""
    (folder / "model_index.json").write_text(json.dumps(row_of(family).packaged("model_index")))


def fuse(tensors: dict[str, torch.Tensor], parts: list[str], leaf: str) -> torch.Tensor:
    """Several of diffusers' layers as one matrix."""
    return torch.cat([tensors.pop(f"{name}.{leaf}") for name in parts])


def swap(tensor: torch.Tensor) -> torch.Tensor:
    """Scale and shift the other way around."""
    first, second = tensor.chunk(2)
    return torch.cat([second, first])
