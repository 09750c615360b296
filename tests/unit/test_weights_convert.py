"""Conversion keeps the weight change, in every precision, and what it writes loads where it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loratui.errors import WeightsError
from loratui.weights.convert import convert_file
from loratui.weights.verify import verify_file

NAMES = [
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k",
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
    "lora_te_text_model_encoder_layers_3_mlp_fc1",
    "lora_unet_down_blocks_1_resnets_0_conv1",
    "lora_unet_down_blocks_1_downsamplers_0_conv",
]
SHAPES = [
    ((4, 768), (320, 4)), ((4, 1280), (10240, 4)), ((4, 768), (3072, 4)),
    ((2, 320, 3, 3), (640, 2, 1, 1)), ((2, 640, 3, 3), (640, 2, 1, 1)),
]  # fmt: skip


@pytest.fixture
def kohya(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {}
    for name, (down, up) in zip(NAMES, SHAPES, strict=True):
        tensors[f"{name}.lora_down.weight"] = torch.randn(down)
        tensors[f"{name}.lora_up.weight"] = torch.randn(up)
        tensors[f"{name}.alpha"] = torch.tensor(3.0)
    path = tmp_path / "k.safetensors"
    save_file(tensors, path, metadata={"ss_base_model_version": "sd_v1", "ss_v2": "False", "x": "y"})
    return path


def change(path: Path) -> dict[str, torch.Tensor]:
    """The two factors of each module's weight change, the scale in the second, by a plain name."""
    tensors = load_file(path)
    found = {}
    for key, tensor in tensors.items():
        if key.endswith("lora_down.weight"):
            base = key.removesuffix(".lora_down.weight")
            scale = float(tensors[f"{base}.alpha"]) / tensor.shape[0]
            name = base.removeprefix("lora_unet_").removeprefix("lora_te_")
            found[name + " A"] = tensor.double()
            found[name + " B"] = tensors[f"{base}.lora_up.weight"].double() * scale
        elif key.endswith("lora_A.weight"):
            base = key.removesuffix(".lora_A.weight")
            name = base.split(".", 1)[1].replace(".", "_")
            found[name + " A"] = tensor.double()
            found[name + " B"] = tensors[f"{base}.lora_B.weight"].double()
    return found


def worst(a: dict, b: dict) -> float:
    assert a.keys() == b.keys() and len(a) == 2 * len(NAMES)
    return max(float((a[k] - b[k]).abs().max() / a[k].abs().max()) for k in a)


@pytest.mark.parametrize(("dtype", "error"), [("fp32", 1e-6), ("fp16", 2e-3), ("bf16", 2e-2), ("", 1e-6)])
def test_there_and_back(kohya: Path, tmp_path: Path, dtype: str, error: float) -> None:
    peft, back = tmp_path / "p.safetensors", tmp_path / "b.safetensors"
    convert_file(kohya, peft, "peft", dtype)
    convert_file(peft, back, "kohya")
    assert worst(change(kohya), change(peft)) <= error
    assert worst(change(peft), change(back)) <= 1e-6
    assert verify_file(peft).matched["diffusers"] == (5, 5) and verify_file(peft).format == "peft"
    assert verify_file(back).ok
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(dtype, torch.float32)
    assert load_file(peft)["text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_A.weight"].dtype == wanted


def test_rounding_to_bf16_is_torchs(kohya: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    convert_file(kohya, out, "kohya", "bf16")
    ours, source = load_file(out), load_file(kohya)
    for name in ours:
        if not name.endswith("alpha"):
            assert torch.equal(ours[name], source[name].bfloat16())


def test_metadata_goes_along_and_the_hash_is_new(kohya: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    convert_file(kohya, out, "kohya", "fp16")
    with safe_open(out, "np") as file:
        found = file.metadata()
    assert (
        found["x"] == "y"
        and found["ss_base_model_version"] == "sd_v1"
        and len(found["sshs_model_hash"]) == 64
    )


def test_alpha_of_a_peft_file_is_heeded(tmp_path: Path) -> None:
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{key}.lora_A.weight": torch.ones(4, 768), f"{key}.lora_B.weight": torch.ones(320, 4)}
    path, out = tmp_path / "p.safetensors", tmp_path / "o.safetensors"
    for stated, alpha in ((json.dumps({"unet.lora_alpha": 8, "unet.r": 4}), 8.0), ("{", 4.0)):
        save_file(tensors, path, metadata={"lora_adapter_metadata": stated})
        convert_file(path, out, "kohya")
        assert float(load_file(out)[f"{NAMES[0]}.alpha"]) == alpha


def test_what_cannot_be_converted_is_said(tmp_path: Path, kohya: Path) -> None:
    def attempt(tensors: dict[str, torch.Tensor]) -> str:
        path = tmp_path / "x.safetensors"
        save_file(tensors, path)
        with pytest.raises(WeightsError) as caught:
            convert_file(path, tmp_path / "y.safetensors", "peft")
        assert not (tmp_path / "y.safetensors").exists()
        return caught.value.message

    good = load_file(kohya)
    assert "no LoRA keys" in attempt({"a": torch.zeros(1)})
    assert "hada" in attempt(good | {f"{NAMES[0]}.hada_w1_a": torch.zeros(4, 4)})
    assert "lacks" in attempt({k: v for k, v in good.items() if k != f"{NAMES[0]}.lora_up.weight"})
    assert "not a pair" in attempt({"lora_unet_double_blocks_0_x.lora_down.weight": torch.zeros(4, 4)})
    assert "place" in attempt({k.replace("down_blocks_0", "down_blocks_9"): v for k, v in good.items()})
    assert np.float32
