"""CLIP text encoders of the Stable Diffusion families: read from files, and from captions to features.

SD1.x and SD2.x have one, SDXL two. A family says which with `TextTower` rows; nothing here knows a family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPTextConfig

from loratui.errors import BaseModelError
from loratui.families.emphasis import Spoken, Weighted
from loratui.families.layouts import clip
from loratui.families.loading import CONFIGS, assemble, identity, read_json, read_tensors, weight_files
from loratui.families.protocol import Condition, Parts
from loratui.families.sources import Place, TextPart, find_encoder, find_tokenizer, no_encoder

MARK = "text_model.encoder.layers.0.layer_norm1.weight"
TextReader = Callable[[Path], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class TextTower:
    """One text encoder of a family.

    Attributes:
        key: the start of its modules' names in kohya files.
        folder: where a diffusers folder keeps it.
        tokenizer: where a diffusers folder keeps its tokenizer.
        pad: what the tokenizer fills up with, for single files.
        read: reads its tensors from an original-layout file, under transformers' names.
        projected: it ends in a projection, whose output conditions the U-Net too (SDXL's second).
    """

    key: str
    folder: str
    tokenizer: str
    pad: str
    read: TextReader
    projected: bool = False


@dataclass(frozen=True, slots=True)
class ClipPart(TextPart):
    """A CLIP text encoder of a family whose parts may lie in different places.

    Attributes:
        key: in `Parts.text_encoders`, and the start of its modules' names in kohya files.
    """

    key: str = ""


def part(key: str, title: str, folder: str, tokenizer: str, hint: str) -> ClipPart:
    """CLIP as a part of a family."""
    return ClipPart(
        title, folder, tokenizer, MARK, hint, ("clip_text_model", "clip"), (),
        ("tokenizer.json", "vocab.json"), key=key,
    )  # fmt: skip


def load_parts(
    clips: Sequence[ClipPart], base: Path, text: Sequence[Path], projected: bool
) -> tuple[dict[str, Callable[[], nn.Module]], dict[str, Any], list[str]]:
    """How to read each encoder when it is needed, their tokenizers, and their content hashes.

    The packaged tokenizer serves where there is none: all CLIPs have the same.

    Raises:
        BaseModelError: an encoder is nowhere, or a tokenizer cannot be read.
    """
    loaders: dict[str, Callable[[], nn.Module]] = {}
    tokenizers: dict[str, Any] = {}
    identities: list[str] = []
    for clip_part in clips:
        place = find_encoder(clip_part, base, text)
        if place is None:
            raise no_encoder(clip_part, base, text)
        folder = find_tokenizer(clip_part, base, text)
        loaders[clip_part.key] = partial(load_place, place, projected, clip_part.hint == "clip_g")
        tokenizers[clip_part.key] = _tokenizer(folder, "!" if clip_part.hint == "clip_g" else "<|endoftext|>")
        config = read_json(place.folder / "config.json") if place.folder is not None else {}
        files = weight_files(place.folder) if place.folder is not None else [cast(Path, place.file)]
        own = [p for p in sorted(folder.iterdir()) if p.is_file()] if folder is not None else []
        identities.append(identity([*files, *own], config, place.prefix))
    return loaders, tokenizers, identities


def load_place(place: Place, projected: bool, giant: bool = False) -> nn.Module:
    """A frozen fp32 encoder from a folder or from a file's tensors under transformers' names.

    Args:
        place: where it is.
        projected: it ends in a projection.
        giant: it is CLIP-G, whose activation no tensor tells.

    Raises:
        BaseModelError: something is missing or does not fit.
    """
    if place.folder is not None:
        tensors = read_tensors(weight_files(place.folder))
        config = read_json(place.folder / "config.json")
    else:
        tensors = read_tensors([cast(Path, place.file)], place.prefix)
        config = {"hidden_act": "gelu" if giant else "quick_gelu", "eos_token_id": 2}
    tensors = {clip.plain(n): t for n, t in tensors.items()}
    if place.folder is None:
        infer(tensors, config)
        if projected and "text_projection.weight" not in tensors:
            # ComfyUI's files of CLIP-L leave out a projection that is the identity.
            tensors["text_projection.weight"] = torch.eye(config["hidden_size"])
            config["projection_dim"] = config["hidden_size"]
    return build(tensors, config, projected)


def _tokenizer(folder: Path | None, pad: str) -> Any:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    if folder is None:
        return CLIPTokenizer.from_pretrained(
            CONFIGS / "clip_tokenizer", local_files_only=True, pad_token=pad, model_max_length=77
        )
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"The tokenizer in {folder} cannot be read: {str(error).splitlines()[0]}.",
            "Download the base model again, it is incomplete.",
        ) from error


@dataclass(frozen=True, slots=True)
class Found:
    """A text encoder of a base, not read yet: once all captions are in the cache, none is needed any more.

    Attributes:
        encoder: reads it; raises a BaseModelError where something does not fit.
        tokenizer: reads its tokenizer.
        identity: content hash of both.
        config: its settings.
    """

    encoder: Callable[[], nn.Module]
    tokenizer: Callable[[], Any]
    identity: str
    config: CLIPTextConfig


def find_in_folder(base: Path, tower: TextTower) -> Found:
    """Encoder and tokenizer of a diffusers folder.

    Raises:
        BaseModelError: something is missing.
    """
    files = weight_files(base / tower.folder)
    config = read_json(base / tower.folder / "config.json")
    folder = base / tower.tokenizer
    if not folder.is_dir():
        raise BaseModelError(f"{folder} is missing.", "Download the base model again, it is incomplete.")
    own = [p for p in sorted(folder.iterdir()) if p.is_file()]

    def encoder() -> nn.Module:
        return build({clip.plain(k): v for k, v in read_tensors(files).items()}, config, tower.projected)

    return Found(
        encoder,
        partial(_tokenizer, folder, tower.pad),
        identity([*files, *own], config),
        CLIPTextConfig.from_dict(config),
    )


def find_in_file(base: Path, configs: Path, tower: TextTower) -> Found:
    """The same of an original-layout file, with packaged settings in `configs`.

    Raises:
        BaseModelError: there is none.
    """
    config = read_json(configs / tower.folder / "config.json")
    infer(tower.read(base), config)

    def encoder() -> nn.Module:
        return build(tower.read(base), config, tower.projected)

    tokenizer = partial(_tokenizer, None, tower.pad)
    return Found(encoder, tokenizer, identity([base], config, "text"), CLIPTextConfig.from_dict(config))


def build(tensors: dict[str, Tensor], config: dict[str, Any], projected: bool) -> nn.Module:
    """A frozen fp32 text encoder from tensors under transformers' names without `text_model.`."""
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

    settings = CLIPTextConfig.from_dict(config)
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    with torch.device("meta"):
        historic = any(n.startswith("text_model.") for n in kind(settings).state_dict())
    named = {
        f"text_model.{n}" if historic and not n.startswith("text_projection") else n: t
        for n, t in tensors.items()
        if "position_ids" not in n
    }
    spare = ("logit_scale",) if projected else ("text_projection", "logit_scale")
    return assemble(lambda: kind(settings), named, torch.float32, "text encoder", spare)


def infer(tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Correct CLIP text settings by the shapes of tensors under transformers' names, in place."""
    width = tensors["embeddings.token_embedding.weight"].shape[1]
    config["vocab_size"] = tensors["embeddings.token_embedding.weight"].shape[0]
    config["max_position_embeddings"] = tensors["embeddings.position_embedding.weight"].shape[0]
    config["hidden_size"] = width
    config["num_attention_heads"] = max(1, width // 64)
    config["intermediate_size"] = tensors["encoder.layers.0.mlp.fc1.weight"].shape[0]
    config["num_hidden_layers"] = 1 + max(
        int(n.split(".")[2]) for n in tensors if n.startswith("encoder.layers.")
    )
    if "text_projection.weight" in tensors:
        config["projection_dim"] = tensors["text_projection.weight"].shape[0]


def read_transformers(base: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors of an encoder that an original-layout file keeps under transformers' names.

    Raises:
        BaseModelError: there are none.
    """
    found = {clip.plain(n): t for n, t in read_tensors([base], prefix).items() if "position_ids" not in n}
    return found or _no_encoder(base)


def read_openclip(base: Path, prefix: str, drop_last: bool) -> dict[str, Tensor]:
    """Tensors of an encoder that an original-layout file keeps under OpenCLIP's names.

    Args:
        base: the file.
        prefix: of its names.
        drop_last: leave the last layer out, for models trained on the output of the last but one.

    Raises:
        BaseModelError: there are none.
    """
    stored = read_tensors([base], prefix) or _no_encoder(base)
    last = max(int(n.split(".")[2]) for n in stored if n.startswith("transformer.resblocks."))
    return clip.openclip_to_transformers(stored, layers=last + (not drop_last))


def _no_encoder(base: Path) -> dict[str, Tensor]:
    raise BaseModelError(
        f"{base} holds no text encoder.", "Take a full checkpoint: U-Net, VAE and text encoder in one file."
    )


def token_ids(parts: Parts, key: str, captions: Sequence[str]) -> Tensor:
    """Token numbers of captions for one encoder, [B, L], on its device."""
    text, tokenizer = parts.text_encoders[key], parts.tokenizers[key]
    length = min(tokenizer.model_max_length, text.config.max_position_embeddings)
    ids_BL: Tensor = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids_BL.to(next(text.parameters()).device)


def target_modules(encoder: nn.Module) -> list[str]:
    """The layers of a text encoder that a LoRA goes into: attention and MLP of every layer."""
    endings = tuple(f".{leaf}" for leaf in clip.LEAVES)
    return [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear) and n.endswith(endings)]


def kohya_name(key: str, module: str) -> str:
    """`lora_te_text_model_encoder_layers_0_mlp_fc1` and the like."""
    return f"{key}_text_model_" + clip.plain(module).replace(".", "_")


def window_ids(parts: Parts, key: str, captions: Sequence[Spoken]) -> tuple[Tensor, Tensor | None]:
    """Token numbers in windows for long captions, [B * W, L]: each with a start, 75 tokens and an end.

    `parts.extras["windows"]` is W; 1 cuts captions off, as `token_ids` does.

    Returns:
        The numbers, and the weight of each token, [B * W, L]; None where no caption has weights.
    """
    count = int(parts.extras.get("windows", 1))
    plain = [c for c in captions if isinstance(c, str)]
    if count == 1 and len(plain) == len(captions):
        return token_ids(parts, key, plain), None
    empty = token_ids(parts, key, [""])[0]  # start, end, padding
    length, end = len(empty), int(empty[1])
    rows, weights = [], []
    for caption in captions:
        ids, factors = _weighted_ids(parts.tokenizers[key], caption)
        for at in range(0, count * (length - 2), length - 2):
            row, part = empty.clone(), torch.tensor(ids[at : at + length - 2], dtype=empty.dtype)
            row[1 : 1 + len(part)] = part.to(empty.device)
            row[1 + len(part)] = end
            rows.append(row)
            weight = torch.ones(length, device=empty.device)
            weight[1 : 1 + len(part)] = torch.tensor(factors[at : at + length - 2], device=empty.device)
            weights.append(weight)
    return torch.stack(rows), None if len(plain) == len(captions) else torch.stack(weights)


def _weighted_ids(tokenizer: Any, caption: Spoken) -> tuple[list[int], list[float]]:
    """Token numbers of a caption without start and end, and their weights."""
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in caption.pieces if isinstance(caption, Weighted) else ((caption, 1.0),):
        found = tokenizer(text, add_special_tokens=False).input_ids
        ids += found
        weights += [weight] * len(found)
    return ids, weights


def emphasised(hidden_NLD: Tensor, weights_NL: Tensor | None) -> Tensor:
    """Features of tokens times their weights, each window's mean put back to what it was.

    That is A1111's default ("Original" emphasis, sd_emphasis.py): the means of CLIP's features are far from
    zero, and without the second half weights would make everything stronger. Windows without weights keep
    every bit.
    """
    if weights_NL is None:
        return hidden_NLD
    scaled_NLD = hidden_NLD * weights_NL[..., None].to(hidden_NLD.dtype)
    before_N, after_N = hidden_NLD.mean((1, 2)), scaled_NLD.mean((1, 2))
    ratio_N = torch.where(after_N == 0, torch.ones_like(after_N), before_N / after_N)
    weighted_N = (weights_NL != 1).any(1)[:, None, None]
    return torch.where(weighted_N, scaled_NLD * ratio_N[:, None, None], hidden_NLD)


def side_by_side(parts: Parts, hidden_NLD: Tensor) -> Tensor:
    """Features of windows as those of captions: [B * W, L, D] to [B, W * L, D]."""
    count = int(parts.extras.get("windows", 1))
    return (
        hidden_NLD if count == 1 else hidden_NLD.reshape(-1, count * hidden_NLD.shape[1], hidden_NLD.shape[2])
    )


def last_hidden_states(parts: Parts, key: str, captions: Sequence[Spoken]) -> Tensor:
    """The last hidden states, normalised: what SD1.x and SD2.x are conditioned on. [B, L, D].

    `parts.extras["clip_skip"]` above 1 takes an earlier layer, with the same normalisation.
    """
    text, skip = parts.text_encoders[key], int(parts.extras.get("clip_skip", 1))
    ids_NL, weights_NL = window_ids(parts, key, captions)
    if skip == 1:
        hidden_NLD: Tensor = text(ids_NL)[0]
    else:
        norm = getattr(text, "text_model", text).final_layer_norm
        hidden_NLD = norm(text(ids_NL, output_hidden_states=True).hidden_states[-skip])
    return side_by_side(parts, emphasised(hidden_NLD, weights_NL))


def one_by_one(
    encode: Callable[[Parts, Sequence[Spoken]], Condition], parts: Parts, captions: Sequence[Spoken]
) -> list[Condition]:
    """Conditions of captions, fp32 on the CPU, each alone: its bits never depend on its neighbours."""
    return [
        {name: tensor[0].float().cpu() for name, tensor in encode(parts, [caption]).items()}
        for caption in captions
    ]
