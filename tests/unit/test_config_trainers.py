"""Other trainers' configs: ten files as people have them, round trips, and broken input."""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from app_kit import project
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.cli import main
from loratui.config.load import as_dict, assemble, build
from loratui.config.presets import load_preset, resolve
from loratui.config.trainers.preset import export_files, preset_text, settle
from loratui.config.trainers.prompts import apply_prompts, parse_prompts, prompts_text
from loratui.config.trainers.reading import command_line, import_config
from loratui.config.trainers.report import Folder, Imported
from loratui.errors import ConfigError, LoratuiError

DATA = Path(__file__).parents[1] / "data" / "trainers"

WANTED: dict[str, dict[str, Any]] = {
    "sd15_character.toml": {
        "model.clip_skip": 2, "data.resolution": 512, "data.min_bucket": 320, "data.max_bucket": 960,
        "data.keep_tokens": 1, "data.flip": True, "data.batch_size": 3, "network.kind": "lora",
        "network.rank": 64, "network.alpha": 32.0, "network.target": "full", "network.text_encoder": True,
        "network.text_lr": 5e-5, "optimizer.name": "adamw8bit", "optimizer.lr": 1e-4, "optimizer.epochs": 12,
        "optimizer.steps": 0, "optimizer.schedule": "cosine", "optimizer.cycles": 3,
        "optimizer.weight_decay": 0.1, "optimizer.beta2": 0.99, "objective.min_snr_gamma": 5.0,
        "objective.seed": 1337, "memory.precision": "bf16", "saving.dtype": "fp16",
    },
    "sdxl_lokr.toml": {
        "network.kind": "lokr", "network.factor": 6, "network.target": "full+conv", "network.conv_rank": 16,
        "network.conv_alpha": 1.0, "network.text_encoder": False, "optimizer.name": "prodigy",
        "optimizer.lr": 1.0, "optimizer.weight_decay": 0.45, "optimizer.steps": 160,
        "optimizer.options": ("d_coef=2", "decouple=True", "use_bias_correction=True",
        "safeguard_warmup=True"),
        "objective.prediction": "v_prediction", "objective.zero_terminal_snr": True, "data.max_tokens": "225",
        "data.resolution": 1024, "data.batch_size": 2, "data.keep_tokens": 2, "data.caption_dropout": 0.05,
        "samples.prompts": ("masterpiece, 1girl, mika", "mika at the sea, wind"),
        "samples.sampler": "euler_a",
        "samples.negative": "lowres, bad hands", "samples.width": 832, "samples.height": 1216,
        "samples.seed": 7, "samples.guidance": 5.5, "samples.steps": 28, "saving.every": 40,
    },
    "sdxl_dataset.toml": {
        "data.resolution": 1024, "data.batch_size": 2, "data.bucketing": True, "data.max_bucket": 2048,
        "data.shuffle_captions": True, "data.keep_tokens": 2, "data.caption_dropout": 0.05,
        "data.upscale": "never",
    },
    "kohya_gui_sd15.json": {
        "network.kind": "lora", "network.rank": 32, "network.alpha": 16.0, "network.conv_rank": None,
        "data.resolution": 640, "data.batch_size": 2, "data.caption_dropout": 0.1, "optimizer.steps": 2000,
        "optimizer.epochs": None, "optimizer.warmup_steps": 200, "optimizer.lr": 1e-4,
        "network.text_lr": 5e-5,
        "optimizer.weight_decay": 0.05, "objective.multires_iterations": 6, "objective.noise_offset": None,
        "objective.seed": 1234, "memory.precision": "fp16", "saving.every": 500, "samples.every": None,
        "samples.prompts": ("a photo of hund", "hund in the snow"), "samples.steps": 20,
    },
    "kohya_gui_sdxl_loha.json": {
        "model.family": "sdxl", "network.kind": "loha", "network.rank": 16, "network.conv_rank": 8,
        "network.conv_alpha": 4.0, "network.rank_dropout": 0.1, "network.module_dropout": 0.05,
        "network.target": "attention+mlp", "network.text_encoder": False, "optimizer.name": "adafactor",
        "optimizer.lr": 4e-4, "optimizer.epochs": 20, "optimizer.schedule": "constant",
        "objective.loss": "huber", "objective.noise_offset": 0.0357, "objective.multires_iterations": None,
        "objective.masked": True, "data.batch_size": 4,
    },
    "command.sh": {
        "network.rank": 32, "network.alpha": 13.0, "network.scale_norm": 2.5, "network.target": "full+conv",
        "network.conv_rank": 8, "network.conv_alpha": 4.0, "network.text_encoder": False,
        "optimizer.name": "adamw8bit", "optimizer.lr": 1e-4, "optimizer.steps": 3000,
        "optimizer.warmup_steps": 100, "data.resolution": 1024, "data.batch_size": 8, "saving.every": 500,
        "saving.name": "pony style", "objective.seed": 42, "memory.gradient_checkpointing": True,
    },
    "aitk_sdxl.yaml": {
        "model.family": "sdxl", "network.kind": "lora", "network.rank": 16, "network.alpha": 8.0,
        "optimizer.name": "adamw8bit", "optimizer.lr": 1e-4, "optimizer.steps": 2000,
        "optimizer.accumulation": 2, "optimizer.weight_decay": 1e-4, "objective.ema_decay": 0.99,
        "data.resolution": 1024, "data.also_at": (512, 768), "data.caption_dropout": 0.05,
        "saving.every": 250, "saving.keep": 4,
        "samples.prompts": ("{trigger} holding a sign", "portrait of {trigger}"), "samples.guidance": 7.0,
    },
    "aitk_sd15_lokr.yaml": {
        "network.kind": "lokr", "network.factor": 8, "optimizer.name": "prodigy",
        "optimizer.options": ("d_coef=0.8",), "optimizer.beta2": 0.99, "objective.timestep_bias": "style",
        "data.resolution": 512, "data.flip": True, "data.reg_dir": "/d/reg", "network.text_encoder": True,
        "saving.keep": 2, "memory.precision": "fp16",
    },
    "onetrainer_sd15.json": {
        "model.family": "sd15", "model.clip_skip": 2, "network.kind": "dora", "network.rank": 32,
        "network.alpha": 16.0, "network.dropout": 0.1, "network.text_lr": 1e-4, "optimizer.lr": 3e-4,
        "optimizer.epochs": 60, "optimizer.steps": 0, "optimizer.lr_floor": 0.1,
        "optimizer.warmup_steps": 100,
        "optimizer.weight_decay": 0.02, "objective.ema_decay": 0.998, "objective.min_snr_gamma": 5.0,
        "objective.masked": True, "objective.mask_floor": 0.2, "objective.timestep_max": 950,
        "samples.every": 200, "saving.every": None, "memory.precision": "bf16", "saving.name": "cat-lora",
    },
    "onetrainer_sdxl_oft.json": {
        "network.kind": "oft", "network.block_size": 16, "network.target": "full", "data.resolution": 1024,
        "optimizer.name": "prodigy", "optimizer.options": ("d_coef=2",), "optimizer.cycles": 3,
        "objective.prediction": "v_prediction", "objective.zero_terminal_snr": True,
        "network.text_encoder": False, "memory.gradient_checkpointing": True, "network.alpha": 1.0,
    },
}  # fmt: skip
ODD = {  # keys that must be in the report as neither taken nor changed
    "sd15_character.toml": {
        "my_own_note": "unknown",
        "lerning_rate": "unknown",
        "save_every_n_epochs": "ignored",
    },
    "sdxl_dataset.toml": {"caption_dropuot_rate": "unknown", "bucket_no_upscale": "taken"},
    "kohya_gui_sd15.json": {
        "epoch": "ignored",
        "random_crop": "ignored",
        "conv_dim": "ignored",
        "bucket_no_upscale": "taken",
    },
    "kohya_gui_sdxl_loha.json": {"frobnicate": "unknown"},
    "aitk_sdxl.yaml": {"sample.smaple_steps": "unknown"},
    "aitk_sd15_lokr.yaml": {"datasets.masks": "unknown", "network.lokr_full_rank": "ignored"},
    "onetrainer_sd15.json": {"galaxy_brain": "unknown", "save_every": "ignored"},
    "onetrainer_sdxl_oft.json": {"train_dtype": "wrong", "loss_weight_fn": "ignored"},
    "command.sh": {"log_with": "ignored"},
    "sdxl_lokr.toml": {"scale_v_pred_loss_like_noise_pred": "ignored"},
}


@pytest.mark.parametrize("name", WANTED)
def test_a_config_is_read_with_a_true_report(name: str, tmp_path: Path) -> None:
    found = settle(import_config(DATA / name))
    assert {key: found.values.get(key) for key in WANTED[name]} == WANTED[name]
    kinds = {line.key: line.kind for line in found.lines}
    for key, kind in ODD[name].items():
        assert kinds[key] == kind, key
    # what the report says was taken is what stands in the settings
    for line in found.lines:
        if line.to and line.kind in {"taken", "changed", "default"}:
            assert line.to in found.values, line
        if line.kind == "unknown":
            assert not line.to
    # and the preset it makes loads and can be resolved
    target = tmp_path / "it.toml"
    target.write_text(preset_text(found))
    config = resolve(load_preset(str(target)), {})
    got = as_dict(config)
    assert {key: got[key] for key in found.values} == dict(found.values)


def _keys(name: str) -> set[str]:
    """Every key of a file, found without our readers."""
    text = (DATA / name).read_text()
    if name.endswith(".toml"):
        table = tomllib.loads(text)
        if "datasets" in table:
            return set(table["general"]) | {k for d in table["datasets"] for k in d if k != "subsets"}
        return {k for v in table.values() if isinstance(v, dict) for k in v} | {
            k for k, v in table.items() if not isinstance(v, dict)
        }
    if name.endswith(".json"):
        return {k for k, v in json.loads(text).items() if not isinstance(v, dict)}
    if name.endswith(".yaml"):
        process = yaml.safe_load(text)["config"]["process"][0]
        return {f"{s}.{k}" for s, v in process.items() if isinstance(v, dict) and s != "train" for k in v}
    return set(command_line(text, DATA / name))


@pytest.mark.parametrize("name", WANTED)
def test_every_key_is_in_the_report_once(name: str) -> None:
    found = import_config(DATA / name)
    counts = Counter(line.key for line in found.lines if line.kind != "default")
    assert not _keys(name) - set(counts)
    several = {k for k, n in counts.items() if n > 1}
    assert all(k.startswith("datasets.") or k in {"caption_extension", "shuffle_caption"} for k in several), (
        several
    )


def test_lines_and_folders_are_named() -> None:
    found = import_config(DATA / "sd15_character.toml")
    places = {line.key: line.where for line in found.lines}
    assert places["lerning_rate"].endswith("sd15_character.toml:54")
    assert import_config(DATA / "sdxl_dataset.toml").folders == (
        Folder("/data/style/main", 4), Folder("/data/style/extra", 1), Folder("/data/reg", 1, "1girl", True),
    )  # fmt: skip
    assert import_config(DATA / "onetrainer_sd15.json").folders == (
        Folder("/data/cat", 2), Folder("/data/cats", 1, "", True),
    )  # fmt: skip
    odd = next(x for x in import_config(DATA / "sdxl_dataset.toml").lines if x.key.endswith("1.keep_tokens"))
    assert odd.kind == "ignored" and odd.where.endswith(":22")
    yaml_line = next(x for x in import_config(DATA / "aitk_sdxl.yaml").lines if "smaple" in x.key)
    assert yaml_line.where.endswith(":61")
    assert import_config(DATA / "aitk_sdxl.yaml").trigger == "p3r5on"


def test_the_command_line_writes_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "pony.toml"
    assert main(["config", "import", str(DATA / "command.sh"), "--out", str(target), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trainer"] == "sd-scripts" and document["preset"] == str(target)
    assert document["values"]["network.rank"] == 32
    assert load_preset(str(target)).values["network.rank"] == 32
    assert main(["config", "import", str(DATA / "command.sh"), "--out", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["config", "import", str(tmp_path / "none.json")]) == 2
    assert "does not exist" in capsys.readouterr().err


# --- there and back -----------------------------------------------------------------------------------------

_SHARED: dict[str, st.SearchStrategy[Any]] = {
    "model.base": st.sampled_from(["/m/a.safetensors", "some/model"]),
    "model.clip_skip": st.integers(1, 4),
    "data.resolution": st.sampled_from([512, 640, 1024]),
    "data.batch_size": st.integers(1, 16),
    "data.bucketing": st.booleans(),
    "data.min_bucket": st.sampled_from([256, 320]),
    "data.flip": st.booleans(),
    "data.caption_dropout": st.sampled_from([0.0, 0.05, 0.1]),
    "data.shuffle_captions": st.booleans(),
    "data.keep_tokens": st.integers(0, 3),
    "data.tag_dropout": st.sampled_from([0.0, 0.1]),
    "data.max_tokens": st.sampled_from(["75", "150", "225"]),
    "data.separator": st.sampled_from([",", ";"]),
    "data.crop": st.sampled_from(["centre", "random", "face"]),
    "data.face_near": st.sampled_from([0.0, 1.5]),
    "data.face_far": st.just(4.0),
    "data.colour_jitter": st.sampled_from([0.0, 0.1]),
    "data.caption_lines": st.sampled_from(["all", "first", "random"]),
    "data.wildcards": st.booleans(),
    "memory.base_weights": st.sampled_from(["full", "fp8", "int8", "nf4"]),
    "memory.compile": st.booleans(),
    "network.kind": st.sampled_from(["lora", "dora", "loha", "lokr"]),
    "network.rank": st.integers(1, 128),
    "network.alpha": st.sampled_from([1.0, 8.0, 13.5]),
    "network.target": st.sampled_from(["attention", "attention+mlp", "full", "full+conv"]),
    "network.text_encoder": st.booleans(),
    "network.text_lr": st.sampled_from([5e-5, 1e-4]),
    "optimizer.name": st.sampled_from(["adamw", "adamw8bit", "lion", "prodigy", "came", "schedule_free"]),
    "optimizer.lr": st.sampled_from([1e-4, 3e-5, 1.0]),
    "optimizer.steps": st.sampled_from([0, 400, 1501]),
    "optimizer.epochs": st.integers(1, 30),
    "optimizer.accumulation": st.integers(1, 4),
    "optimizer.schedule": st.sampled_from(["constant", "linear", "cosine", "polynomial", "rex", "wsd"]),
    "optimizer.power": st.sampled_from([1.0, 2.0]),
    "optimizer.warmup_steps": st.integers(0, 300),
    "optimizer.weight_decay": st.sampled_from([0.0, 0.01, 0.45]),
    "optimizer.beta2": st.sampled_from([0.999, 0.99]),
    "optimizer.max_grad_norm": st.sampled_from([0.0, 1.0]),
    "objective.seed": st.integers(0, 2**31),
    "objective.min_snr_gamma": st.sampled_from([0.0, 5.0]),
    "objective.noise_offset": st.sampled_from([0.0, 0.05]),
    "objective.loss": st.sampled_from(["l2", "huber"]),
    "objective.timestep_max": st.sampled_from([1000, 900]),
    "memory.precision": st.sampled_from(["bf16", "fp16", "fp32"]),
    "memory.gradient_checkpointing": st.booleans(),
    "saving.every": st.integers(1, 1000),
    "saving.dtype": st.sampled_from(["fp16", "bf16", "fp32"]),
    "samples.every": st.integers(1, 1000),
    "samples.prompts": st.sampled_from([(), ("a {trigger}", "b, c: 3")]),
}
_ONLY = {  # keys that one of the two has no word for
    "ai-toolkit": {
        "model.clip_skip", "data.min_bucket", "data.max_tokens", "data.separator", "objective.seed",
        "data.face_near", "data.face_far", "data.colour_jitter", "data.caption_lines", "data.wildcards",
    },
    "sd-scripts": {"samples.prompts"},  # its prompts have no {trigger}
}  # fmt: skip


def _effective(values: dict[str, Any], trainer: str) -> dict[str, Any]:
    """The shared settings that mean something with these values and that the trainer has a word for."""
    found = {k: v for k, v in values.items() if k in _SHARED and k not in _ONLY[trainer]}
    if not values["network.text_encoder"]:
        found.pop("network.text_lr")
    found.pop("optimizer.epochs" if values["optimizer.steps"] else "optimizer.steps")
    if values["optimizer.schedule"] != "polynomial":
        found.pop("optimizer.power")
    if values["memory.base_weights"] == ("nf4" if trainer == "ai-toolkit" else "int8"):
        found.pop("memory.base_weights")  # no word for it
    if trainer == "ai-toolkit" and values["data.crop"] == "face":
        found.pop("data.crop")
    if trainer == "sd-scripts":
        if values["memory.base_weights"] == "nf4":
            found.pop("memory.base_weights")
        if values["data.crop"] == "face" and not values["data.face_near"]:
            found.pop("data.crop")
        if values["data.crop"] != "face" or not values["data.face_near"]:
            del found["data.face_near"], found["data.face_far"]
        if values["data.caption_lines"] == "all":  # it takes the first line, or one at random with wildcards
            found["data.caption_lines"] = "random" if values["data.wildcards"] else "first"
        elif values["data.caption_lines"] == "random":
            found["data.wildcards"] = True
        elif values["data.wildcards"]:
            found["data.caption_lines"] = "random"
    if values["optimizer.name"] in {"lion", "came"}:
        found.pop("optimizer.beta2")
    if trainer == "ai-toolkit":
        found.pop("optimizer.epochs", None)  # it counts in steps only
        if values["optimizer.schedule"] == "wsd":
            found.pop("optimizer.schedule")
        if values["network.kind"] == "loha":
            found.pop("network.kind")
        if values["network.target"].startswith("attention"):
            found.pop("network.target")
    return found


@settings(max_examples=150, deadline=None)
@given(values=st.fixed_dictionaries(_SHARED), trainer=st.sampled_from(["sd-scripts", "ai-toolkit"]))
def test_export_then_import_is_the_identity_on_what_both_know(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any], trainer: str
) -> None:
    whole = as_dict(assemble(values))
    files, _ = export_files(trainer, whole, [Folder("/d/pictures", 3)], "it", "xyz", "sd15")
    folder = tmp_path_factory.mktemp("export")
    for name, text in files.items():
        (folder / name).write_text(text)
    name = "config.toml" if trainer == "sd-scripts" else "it.yaml"
    found = import_config(folder / name)
    wanted = _effective(whole, trainer)
    got = {key: as_dict(assemble(found.values))[key] for key in wanted}
    assert got == wanted
    assert [f.path for f in found.folders] == ["/d/pictures"] and found.folders[0].repeats == 3
    assert not [line for line in found.lines if line.kind in {"unknown", "wrong"}]


_READ = [
    ("a.toml", 'network_dim = 8\nfp8_base = true\ntorch_compile = true\nblocks_to_swap = 20',
     {"memory.base_weights": "fp8", "memory.compile": True, "memory.blocks_to_swap": 20,
      "data.caption_lines": "first"}),
    ("b.toml", 'network_dim = 8\nrandom_crop = true\ncolor_aug = true\nenable_wildcard = true',
     {"data.crop": "random", "data.colour_jitter": 0.1, "data.caption_lines": "random",
      "data.wildcards": True}),
    ("c.toml", '[general]\nface_crop_aug_range = [4.0, 2.0]\nrandom_crop = true',
     {"data.crop": "face", "data.face_near": 2.0, "data.face_far": 4.0, "data.caption_lines": "first"}),
    ("d.json", json.dumps({"LoRA_type": "Standard", "color_aug": True, "fp8_base": True}),
     {"data.colour_jitter": 0.1, "memory.base_weights": "fp8"}),
    ("e.yaml", """config: {name: x, process: [{network: {type: lora}, model: {quantize: true, qtype: uint4,
     compile: true}, datasets: [{folder_path: /d, random_crop: true}]}]}""",
     {"memory.base_weights": "nf4", "memory.compile": True, "data.crop": "random"}),
    ("f.yaml", "config: {name: x, process: [{network: {type: lora}, model: {quantize: true}}]}",
     {"memory.base_weights": "fp8", "memory.compile": None}),
    ("g.json", json.dumps({
        "training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "compile": True,
        "gradient_checkpointing": "CPU_OFFLOADED", "layer_offload_fraction": 0.5,
        "unet": {"weight_dtype": "NFLOAT_4"},
        "concepts": [{"path": "/d", "image": {
            "enable_crop_jitter": True, "enable_random_flip": True, "enable_random_hue": True,
            "random_hue_max_strength": 0.2}, "text": {"keep_tags_count": 2, "enable_tag_shuffling": True}}]}),
     {"memory.base_weights": "nf4", "memory.compile": True, "memory.blocks_to_swap": 44,
      "data.crop": "random", "data.flip": True, "data.colour_jitter": 0.2, "data.keep_tokens": 2,
      "data.shuffle_captions": True, "data.caption_lines": "random"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "wanted"), _READ, ids=[name for name, _, _ in _READ])
def test_crops_colours_lines_and_weights(
    name: str, text: str, wanted: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    found = import_config(tmp_path / name)
    assert {key: found.values.get(key) for key in wanted} == wanted
    assert not [line for line in found.lines if line.kind in {"unknown", "wrong"}]


def test_sd_scripts_caches_nothing_that_changes() -> None:
    """It stops with an error where latents are cached and crops or colours are random."""
    for changes in ({}, {"data.crop": "random"}, {"data.colour_jitter": 0.3}):
        files, unsaid = export_files("sd-scripts", as_dict(assemble(changes)), [], "it", "", "sd15")
        assert tomllib.loads(files["config.toml"])["cache_latents"] == (not changes)
        assert any("one strength" in text for text in unsaid) == ("data.colour_jitter" in changes)


def test_export_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project(tmp_path / "robot")
    every = (("sd-scripts", {"config.toml", "dataset.toml"}), ("ai-toolkit", {"robot.yaml"}))
    for trainer, names in every:
        out = tmp_path / trainer
        assert main(["config", "export", str(folder), "--to", trainer, "--out", str(out), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert {Path(p).name for p in document["files"]} == {p.name for p in out.iterdir()}
        assert names <= {p.name for p in out.iterdir()}
        again = next(p for p in out.iterdir() if p.name in {"config.toml", "robot.yaml"})
        assert [Path(f.path).name for f in import_config(again).folders] == ["dataset"]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), max_size=4),
    st.integers(0, 2**31), st.integers(1, 100),
)  # fmt: skip
def test_prompt_files_survive(words: list[str], seed: int, steps: int) -> None:
    prompts = tuple(w for w in words if not w.startswith("#"))
    values = as_dict(assemble({"samples.prompts": prompts, "samples.seed": seed, "samples.steps": steps}))
    read = apply_prompts(parse_prompts(prompts_text(values)))
    assert read.get("samples.prompts", ()) == prompts
    if prompts:
        assert read["samples.seed"] == seed and read["samples.steps"] == steps


# --- broken input -------------------------------------------------------------------------------------------


_JUNK = (
    b"-1", b"0", b'""', b'"x"', b"[]", b"[1, 2]", b"true", b"1e300", b"0.5",
    b"123456789012345678901234567890",
    b'"nan"', b'"\\u202e\\u0007"', b"[[1]]", b'"1e-4"', b"-0.0", b'"\xf0\x9f\x90\x88"', b'["a=b", "c"]',
)  # fmt: skip


def _mutated(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    for _ in range(chance.randint(0, 4)):  # values of the wrong kind, in files that still parse
        at = chance.randrange(len(lines))
        found = re.match(rb"^(.*?[=:] ?)([^\[{,]+?)(,?)$", lines[at])
        if found:
            junk = chance.choice(_JUNK)
            lines[at] = found[1] + junk + found[3]
    text = bytearray(b"\n".join(lines))
    for _ in range(chance.choice([0, 0, 1, 3])):
        if not text:
            break
        at = chance.randrange(len(text))
        match chance.randrange(6):
            case 0:
                text[at] = chance.randrange(256)
            case 1:
                del text[at : at + chance.randint(1, 30)]
            case 2:
                text[at:at] = chance.choice(
                    [b'"', b"{", b"]", b"\n", b"\x00", b"1e999", b"-", b"\xff\xfe", b"[[", b": ", b"&a ",
                     b"*a", b"null", b"true", b"{}", b"[]", b"99999999999999999999", b"NaN", b"Infinity",
                     b"'", b"\\u0000"]
                )  # fmt: skip
            case 3:
                lines = text.split(b"\n")
                chance.shuffle(lines)
                text = bytearray(b"\n".join(lines))
            case 4:
                other = chance.randrange(len(text))
                text[at:at] = text[other : other + chance.randint(1, 60)]
            case 5:
                text = text[: chance.randrange(len(text)) + 1]
    return bytes(text)


def _survives(path: Path) -> Imported | None:
    try:
        found = settle(import_config(path))
    except LoratuiError as error:
        assert path.name in error.message, error.message
        assert "Traceback" not in error.message
        return None
    build_from = preset_text(found)
    target = path.with_name("preset-of-it.toml")
    target.write_text(build_from)
    try:
        resolve(load_preset(str(target)), {})
    except ConfigError as error:
        raise AssertionError(f"{path}: {[str(p) for p in error.problems]}") from error
    return found


def fuzz(folder: Path, count: int, seed: int) -> int:
    """Mutated configs; how many of them were still read."""
    chance = random.Random(seed)
    files = sorted(p for p in DATA.iterdir() if p.name in WANTED)
    read = 0
    for number in range(count):
        source = chance.choice(files)
        path = folder / f"case{number % 50}{source.suffix}"
        path.write_bytes(_mutated(source.read_bytes(), chance))
        read += _survives(path) is not None
    return read


def test_mutated_configs_never_raise_anything_else(tmp_path: Path) -> None:
    assert 50 < fuzz(tmp_path, 300, 7) < 300


@pytest.mark.long
def test_ten_thousand_mutated_configs(tmp_path: Path) -> None:
    assert 1000 < fuzz(tmp_path, 10_000, 1) < 10_000


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"[1, 2]", "no config"),
        ("a.json", b"{\"a\": 1,\n \"b\" 2}", "a.json:2: not valid JSON"),
        ("a.json", b"{\"a\": 1}", "no config of kohya_ss"),
        ("a.yaml", b"a: [1\nb: 2", "a.yaml:2: not valid YAML"),
        ("a.yaml", b"a: 1", "config.process"),
        ("a.toml", b"x = 3", "no key of sd-scripts"),
        ("a.toml", b"x = = 3", "a.toml:1: not valid TOML"),
        ("a.sh", b"echo hello", "no config that is known"),
        ("a.sh", b"python train_network.py --lr \"1", "a.sh:1"),
        ("a.sh", b"python flux_train_network.py --lr 1", "cannot be imported yet"),
        ("a.json", b"\xff\xfe{", "not UTF-8"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
        ("a.yaml", b"[" * 5_000, "not valid YAML"),
        ("a.yaml", b"!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)  # fmt: skip
def test_broken_files_say_where(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        import_config(path)
    assert says in caught.value.message and name in caught.value.message


def test_what_would_be_refused_is_put_right_and_said(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(
        "network_dim = 8\nresolution = 500\nlr_warmup_steps = 50\nmax_train_steps = 40\n"
        'network_module = "networks.lora"\n'
    )
    found = settle(import_config(path))
    build([])
    assert found.values["data.resolution"] == 512 and found.values["optimizer.warmup_steps"] == 39
    assert [line for line in found.lines if line.to == "data.resolution" and "multiple" in line.why]
