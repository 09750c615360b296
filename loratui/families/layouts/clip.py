"""Names of CLIP text encoders: transformers' own, as in SD1 files, and OpenCLIP's, as in SD2 files.

transformers 5 dropped the `text_model.` level that classic files carry; `plain` takes both to the new form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SD1_PREFIX = "cond_stage_model.transformer."
SD2_PREFIX = "cond_stage_model.model."
SDXL_PREFIXES = ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.")

_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


LEAVES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2",
)  # fmt: skip
"""Linear layers of one layer, under transformers' names."""


def plain(name: str) -> str:
    """A transformers CLIP text name without the historic `text_model.` level."""
    return name.removeprefix("text_model.")


def openclip_to_transformers(tensors: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Convert OpenCLIP text tensors (prefix removed) to transformers' names.

    Args:
        tensors: OpenCLIP name -> tensor; fused `attn.in_proj_*` of [3D, ...] are cut into q, k and v.
        layers: how many layers to keep (SD2 takes the output of the last but one, so one fewer than stored).
    """
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name == "token_embedding.weight":
            found["embeddings.token_embedding.weight"] = tensor
        elif name == "positional_embedding":
            found["embeddings.position_embedding.weight"] = tensor
        elif name == "text_projection":  # OpenCLIP multiplies from the left
            found["text_projection.weight"] = tensor.T.contiguous()
        elif name.startswith("ln_final."):
            found["final_layer_norm." + name.removeprefix("ln_final.")] = tensor
        elif name.startswith("transformer.resblocks."):
            number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
            if int(number) >= layers:
                continue
            base = f"encoder.layers.{number}."
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                width = tensor.shape[0] // 3
                for i, part in enumerate(("q_proj", "k_proj", "v_proj")):
                    found[f"{base}self_attn.{part}.{kind}"] = tensor[i * width : (i + 1) * width]
                continue
            for theirs, ours in _LAYER.items():
                if rest.startswith(theirs + "."):
                    found[base + ours + rest[len(theirs) :]] = tensor
                    break
    return found


def transformers_to_openclip(tensors: Mapping[str, Any], join: Any) -> dict[str, Any]:
    """The inverse of `openclip_to_transformers`; `join` concatenates tensors along the first axis."""
    found: dict[str, Any] = {}
    fused: dict[str, dict[str, Any]] = {}
    for full, tensor in tensors.items():
        name = plain(full)
        if name == "embeddings.token_embedding.weight":
            found["token_embedding.weight"] = tensor
        elif name == "embeddings.position_embedding.weight":
            found["positional_embedding"] = tensor
        elif name == "text_projection.weight":
            found["text_projection"] = tensor.T
        elif name.startswith("final_layer_norm."):
            found["ln_final." + name.removeprefix("final_layer_norm.")] = tensor
        elif name.startswith("encoder.layers."):
            number, rest = name.removeprefix("encoder.layers.").split(".", 1)
            base = f"transformer.resblocks.{number}."
            head, kind = rest.rsplit(".", 1)
            if head in {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}:
                fused.setdefault(f"{base}attn.in_proj_{kind}", {})[head[-6]] = tensor
                continue
            theirs = next(t for t, o in _LAYER.items() if o == head)
            found[f"{base}{theirs}.{kind}"] = tensor
    for name, parts in fused.items():
        found[name] = join([parts["q"], parts["k"], parts["v"]])
    return found
