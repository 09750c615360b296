"""`verify` against the reference trainer's module lists, and on files that are wrong in one way each."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from loratui.errors import WeightsError
from loratui.weights.consumers import STRUCTURES, Structure
from loratui.weights.verify import table, verify_file

GOLDEN = Path(__file__).parent.parent / "data" / "golden"


def golden(name: str) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    rows = (line.split("\t") for line in (GOLDEN / f"{name}.tsv").read_text().splitlines())
    return {n: (tuple(map(int, d.split("x"))), tuple(map(int, u.split("x")))) for n, d, u in rows}


def tensors(modules, keep=lambda name: True, dtype=np.float16) -> dict[str, np.ndarray]:
    found = {}
    for name, (down, up) in modules.items():
        if keep(name):
            found[f"{name}.lora_down.weight"] = np.zeros(down, dtype)
            found[f"{name}.lora_up.weight"] = np.zeros(up, dtype)
            found[f"{name}.alpha"] = np.array(8, dtype)
    return found


def small(name: str) -> bool:
    """Enough of a file to check, without its large middle."""
    return ("_0_" in name and "down_blocks_0" in name) or "encoder_layers_0_" in name


def dotted(name: str) -> str:
    """A kohya U-Net name as diffusers writes the module."""
    path = name.removeprefix("lora_unet_")
    path = re.sub(r"_(\d+)_", r".\1.", re.sub(r"_(\d+)_", r".\1.", path))
    path = re.sub(r"_(\d+)$", r".\1", path)
    for leaf in ("attentions", "resnets", "transformer_blocks", "downsamplers", "upsamplers"):
        path = path.replace(f"_{leaf}", f".{leaf}")
    return re.sub(r"(attn\d)_", r"\1.", path).replace("to_out_0", "to_out.0").replace("ff_net", "ff.net")


@pytest.mark.parametrize(
    ("name", "family", "count"),
    [
        ("sd15", "sd15", 264),
        ("sd15_conv", "sd15", 350),
        ("sd2", "sd2", 330),
        ("sdxl", "sdxl", 986),
        ("sdxl_conv", "sdxl", 1052),
    ],
)
def test_the_reference_trainers_files_match_everywhere(
    tmp_path: Path, name: str, family: str, count: int
) -> None:
    path = tmp_path / f"{name}.safetensors"
    save_file(tensors(golden(name)), path)
    found = verify_file(path)
    assert found.family == family and found.format == "kohya" and found.rank == 8
    assert found.matched == dict.fromkeys(("diffusers", "comfyui", "a1111"), (count, count))
    assert found.ok and not found.problems
    assert json.loads(json.dumps(found.as_json()))["matched"]["comfyui"] == [count, count]


def test_the_reference_trainers_flux_file_matches(tmp_path: Path) -> None:
    """Two blocks of each kind, and CLIP-L; a misspelt name is told."""
    path = tmp_path / "m.safetensors"
    rows = {n: s for n, s in golden("flux1").items() if "_0_" in n or "_1_" in n}
    save_file(tensors(rows), path)
    found = verify_file(path)
    assert found.family == "flux" and found.ok
    assert found.matched == dict.fromkeys(("diffusers", "comfyui"), (len(rows), len(rows)))
    odd = {n.replace("double_blocks_1_txt_mlp_0", "double_blocks_1_txt_mlp_9"): s for n, s in rows.items()}
    save_file(tensors(odd), path)
    assert not verify_file(path).ok and verify_file(path).problems[0].code == "unmatched"


def test_the_tables_hold_what_the_rules_derive() -> None:
    for family, structure in STRUCTURES.items():
        names = table(family)
        assert names.keys() <= structure.kohya.keys() and names.keys() <= structure.comfyui
        assert {structure.a1111_name(n) for n in names} <= structure.a1111
        assert len({structure.a1111_name(n) for n in names}) == len(names)


def test_the_rules_agree_with_the_checkpoint_reader() -> None:
    """Two accounts of the original layout, written apart: consumers' rules and our reader of files."""
    from loratui.families.layouts import ldm

    for attention, layers in [((True, True, True, False), 2), ((False, True, True), 1), ((True, False), 3)]:
        config = {
            "layers_per_block": layers,
            "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
            "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)],
        }
        modules = ldm.unet_modules(config)
        for name, original in Structure(tuple(map(int, attention)), 1, layers, ()).unet.items():
            if not name.endswith("conv_shortcut"):
                assert ldm.unet_original_name(name, modules) == original


def problems(tmp_path: Path, content: dict, metadata: dict | None = None) -> dict[str, str]:
    path = tmp_path / "m.safetensors"
    save_file(content, path, metadata=metadata)
    found = verify_file(path)
    assert found.problems or found.ok
    return {p.code: p.message for p in found.problems}


def test_each_fault_is_found(tmp_path: Path) -> None:
    good = tensors(golden("sd15"), small)
    assert not problems(tmp_path, good)
    first = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert first + ".alpha" in good

    without = {k: v for k, v in good.items() if k != first + ".lora_up.weight"}
    assert "incomplete" in problems(tmp_path, without)
    assert "no-alpha" in problems(tmp_path, {k: v for k, v in good.items() if not k.endswith("alpha")})
    assert "wrong-shape" in problems(
        tmp_path, good | {first + ".lora_up.weight": np.zeros((640, 8), np.float16)}
    )
    assert "uneven" in problems(tmp_path, good | {first + ".lora_up.weight": np.zeros((320, 4), np.float16)})
    nan = good | {first + ".lora_up.weight": np.full((320, 8), np.nan, np.float16)}
    assert "not-finite" in problems(tmp_path, nan)
    assert "strange-keys" in problems(tmp_path, good | {"optimizer.step": np.zeros(1)})
    renamed = {k.replace("down_blocks_0", "down_blocks_7"): v for k, v in good.items()}
    assert "comfyui drops" in problems(tmp_path, good | renamed)["unmatched"] or "unmatched" in problems(
        tmp_path, renamed
    )
    assert "not-a-lora" in problems(tmp_path, {"a.b.c": np.zeros(3)})


def test_peft_attention_keys_do_not_load_in_comfyui(tmp_path: Path) -> None:
    """diffusers' own form: all load there, what is not attention in ComfyUI, nothing in A1111."""
    rows = {n: s for n, s in golden("sd15").items() if "lora_unet_down_blocks_0_attentions_0" in n}
    content = {}
    for name, (down, up) in rows.items():
        content[f"unet.{dotted(name)}.lora_A.weight"] = np.zeros(down, np.float32)
        content[f"unet.{dotted(name)}.lora_B.weight"] = np.zeros(up, np.float32)
    path = tmp_path / "m.safetensors"
    save_file(content, path)
    found = verify_file(path)
    assert found.format == "peft" and found.family == "sd15" and not found.ok
    assert found.matched == {"diffusers": (12, 12), "comfyui": (4, 12), "a1111": (0, 12)}


def test_a_base_of_other_blocks_is_looked_up_by_its_own_structure(tmp_path: Path) -> None:
    name = "lora_unet_up_blocks_0_attentions_1_transformer_blocks_0_attn2_to_k"
    content = tensors({name: ((4, 160), (160, 4))})
    assert "unmatched" in problems(tmp_path, content)  # SD1.5's first block upwards has no attention
    structure = json.dumps({"attention": [False, True, True], "layers": 1, "text_layers": 2})
    found = problems(tmp_path, content, {"loratui_structure": structure})
    assert set(found) == {"other-size"}
    for bad in ("{", "[]", '{"attention": [], "layers": 1, "text_layers": 1}', '{"attention": 3}'):
        assert "unmatched" in problems(tmp_path, content, {"loratui_structure": bad})


def test_unreadable_files_are_requests_gone_wrong(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for data in (b"", b"\x80\x04junk", b"\xff" * 8 + b"{}"):
        path.write_bytes(data)
        with pytest.raises(WeightsError):
            verify_file(path)
    with pytest.raises(WeightsError, match="not exist"):
        verify_file(tmp_path / "none.safetensors")
