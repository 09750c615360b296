"""What a base is, from headers and JSON; and clear words for what cannot be trained."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import train_kit as kit

from loratui.errors import BaseModelError, LoratuiError
from loratui.families.clip_unet import load_vae
from loratui.families.detect import detect, locate
from loratui.families.spec import FAMILIES, FamilySpec
from loratui.project.project import Project
from loratui.project.start import assess
from loratui.train.warmstart import start_from

UNET = "model.diffusion_model."


def write_header(
    path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None
) -> Path:
    """A sparse .safetensors file of these fp16 shapes."""
    offset, entries = 0, {}
    for name, shape in shapes.items():
        size = 2
        for n in shape:
            size *= n
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    if metadata:
        entries["__metadata__"] = metadata
    raw = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + offset)
    return path


def checkpoint(text: str = "cond_stage_model.transformer.text_model.x", channels: int = 4, **more) -> dict:
    return {
        UNET + "input_blocks.0.0.weight": (320, channels, 3, 3),
        "first_stage_model.post_quant_conv.weight": (4, 4, 1, 1),
        "first_stage_model.encoder.down.3.block.0.conv1.weight": (512, 512, 3, 3),
        text: (8,),
        **more,
    }


def refused(path: Path) -> tuple[str, str]:
    found = detect(path)
    assert not found.ok
    problem = next(p for p in found.problems if p.severity == "error")
    assert problem.advice
    return problem.code, problem.message


def test_single_files(tmp_path: Path) -> None:
    one = detect(write_header(tmp_path / "a.safetensors", checkpoint()))
    assert (one.family, one.layout, one.prediction, one.ok) == ("sd15", "original", "epsilon", True)
    two = detect(
        write_header(tmp_path / "b.safetensors", checkpoint("cond_stage_model.model.ln_final.weight"))
    )
    assert (two.family, two.prediction, two.ok) == ("sd2", "v_prediction", True)
    assert two.problems[0].code == "guessed-prediction"
    stated = {"modelspec.prediction_type": "epsilon"}
    three = detect(write_header(tmp_path / "c.safetensors", checkpoint("cond_stage_model.model.x"), stated))
    assert three.prediction == "epsilon" and not three.problems


@pytest.mark.parametrize(
    ("shapes", "code", "says"),
    [
        (checkpoint(channels=9), "variant", "inpainting"),
        (checkpoint(channels=8), "variant", "picture-to-picture"),
        (checkpoint("conditioner.embedders.0.model.ln_final.weight"), "refiner", "SDXL refiner"),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 3)}, "other-family", "FLUX"),
        ({"model.diffusion_model.joint_blocks.0.x": (3,)}, "other-family", "Stable Diffusion 3"),
        ({"lora_unet_mid_block_x.lora_down.weight": (4, 4)}, "other-family", "LoRA"),
        ({"encoder.down.0.block.0.conv1.weight": (4, 4)}, "other-family", "VAE"),
        ({"down_blocks.0.x": (4,), "up_blocks.0.x": (4,)}, "other-family", "bare diffusers U-Net"),
        ({UNET + "input_blocks.0.0.weight": (320, 4, 3, 3)}, "incomplete", "text encoder"),
        ({"something": (4,)}, "not-a-model", "no Stable Diffusion"),
    ],
)  # fmt: skip
def test_files_that_are_refused_with_a_reason(tmp_path: Path, shapes, code: str, says: str) -> None:
    found = refused(write_header(tmp_path / "m.safetensors", shapes))
    assert found[0] == code and says in found[1]


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_inpainting_models_are_refused_wherever_they_come_from(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Nine channels (latents, masked latents, mask), as a file and as a folder; a run does not start."""
    text = {"sd15": "cond_stage_model.transformer.text_model.x", "sd2": "cond_stage_model.model.x",
            "sdxl": "conditioner.embedders.1.model.x"}[family]  # fmt: skip
    shapes = checkpoint(text, 9)
    if family == "sdxl":
        shapes["conditioner.embedders.0.transformer.text_model.x"] = (8,)
    file = write_header(tmp_path / "m.safetensors", shapes)
    folder = tmp_path / "folder"
    shutil.copytree(request.getfixturevalue(f"tiny_{family}"), folder)
    xl = "XL" if family == "sdxl" else ""
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": f"StableDiffusion{xl}InpaintPipeline"})
    )
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(json.dumps({**config, "in_channels": 9}))
    for base in (file, folder):
        code, message = refused(base)
        assert code == "variant" and "inpainting" in message and "9 input channels" in message
    project = Project.create(tmp_path / "p", str(file), "sks", kit.tiny_pictures(tmp_path / "d")[0].parent)
    errors = assess(project, project.resolve("demo", {"model.base": str(folder)})).errors
    assert "variant" in {p.code for p in errors}


def test_a_ckpt_is_read_by_nothing_but_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As base, as VAE and as a LoRA to go on from: refused with the command, and no pickle is opened."""
    import pickle

    import torch

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, None)
    monkeypatch.setattr(torch, "load", None)
    path = tmp_path / "m.ckpt"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 64)
    found = detect(path)
    assert "loratui convert" in found.problems[0].advice and found.problems[0].code == "pickle"
    with pytest.raises(BaseModelError, match=r"not a \.safetensors"):
        load_vae(path)
    with pytest.raises(LoratuiError):
        start_from(SimpleNamespace(dotted=False), path)  # type: ignore[arg-type]


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    good = write_header(tmp_path / "good.safetensors", checkpoint())
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-10])
    assert refused(cut)[0] == "unreadable" and "truncated" in refused(cut)[1]
    cut.write_bytes(good.read_bytes()[:100])
    assert "truncated" in refused(cut)[1]
    pickle = tmp_path / "m.ckpt"
    pickle.write_bytes(b"PK\x03\x04")
    assert refused(pickle)[0] == "pickle"
    for data in (
        b"",
        b"\x80\x02}",
        b"PK\x03\x04aaaaaaaaaaaa",
        b"<!DOCTYPE html>....",
        b"version https://git-lfs",
    ):
        cut.write_bytes(data)
        assert "not a .safetensors" in refused(cut)[1]
    cut.write_bytes(struct.pack("<Q", 20) + b'{"a": {"dtype": "F1"')
    assert "damaged" in refused(cut)[1]
    assert "not exist" in refused(tmp_path / "none.safetensors")[1]


def test_folders(tiny_sd15: Path, tiny_sd2: Path, tmp_path: Path) -> None:
    one, two = detect(tiny_sd15), detect(tiny_sd2)
    assert (one.family, one.prediction, one.latent_factor) == ("sd15", "epsilon", 2)
    assert (two.family, two.prediction) == ("sd2", "v_prediction")
    assert one.parameters > 100_000 and one.bytes > 4 * one.parameters
    copy = tmp_path / "copy"
    shutil.copytree(tiny_sd15, copy)
    index = copy / "model_index.json"
    index.write_text(json.dumps({"_class_name": "PixArtSigmaPipeline"}))
    assert refused(copy)[0] == "other-family" and "PixArt" in refused(copy)[1]
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "no .safetensors weights" in refused(copy)[1]
    (copy / "vae" / "diffusion_pytorch_model.bin").touch()
    assert "pickled" in refused(copy)[1]
    index.unlink()
    assert refused(copy)[0] == "not-a-model"


def test_locate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_sd15: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError) as caught:
        locate("someone/a-model")
    assert "loratui get someone/a-model" in caught.value.advice
    snapshot = tmp_path / "models--someone--a-model" / "snapshots" / "abc"
    shutil.copytree(tiny_sd15, snapshot)
    (tmp_path / "models--someone--a-model" / "refs").mkdir()
    (tmp_path / "models--someone--a-model" / "refs" / "main").write_text("abc")
    assert locate("someone/a-model") == snapshot
    assert locate(str(tiny_sd15)) == tiny_sd15.resolve()
    assert locate("base", tiny_sd15.parent) == tiny_sd15.resolve()
    assert detect(locate("demo")).family == "sd15"
    for missing in ("", "no/such/folder", "nowhere.safetensors"):
        with pytest.raises(BaseModelError):
            locate(missing)


def test_detection_needs_no_torch() -> None:
    code = "import sys, loratui.families.detect, loratui.weights.verify; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("row", [f for f in FAMILIES if f.flow], ids=lambda f: f.name)
def test_another_kind_of_a_family_is_refused_by_its_title(row: FamilySpec, tmp_path: Path) -> None:
    """Control, inpainting and the like: said with the pipeline's class, and not taken for a shorter name."""
    kind = min(row.pipelines, key=len).replace("Pipeline", "ControlInpaintPipeline")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    code, message = refused(tmp_path)
    assert code == "other-family" and message.endswith(f"is another kind of {row.title} ({kind}).")
