"""A FLUX.1 base of true size, as a header: the plan's numbers, and whether it fits a card."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from app_kit import project

from loratui import cli
from loratui.config.schema import NetworkConfig
from loratui.plan import cards
from loratui.plan.cards import Card
from loratui.plan.sizes import sizes
from loratui.weights.base_layers import read_layers
from loratui.weights.layouts import names_of

GOLDEN = Path(__file__).parent.parent / "data" / "golden" / "flux1.tsv"


def golden() -> dict[str, tuple[int, int]]:
    """kohya's name of each module of the transformer -> (in, out), from the reference trainer's file."""
    rows = (line.split("\t") for line in GOLDEN.read_text().splitlines())
    return {n: (int(down[2:]), int(up[:-2])) for n, down, up in rows if n.startswith("lora_unet_")}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse file with the header of a transformer of true size, bf16; empty text encoders beside it."""
    names = names_of("flux").kohya
    shapes = {f"{names[n]}.weight": [out, into] for n, (into, out) in golden().items()}
    shapes["vector_in.in_layer.weight"] = [3072, 768]
    entries, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    path = tmp_path_factory.mktemp("flux") / "flux1-dev.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    for folder, kind in (("text_encoder", "clip_text_model"), ("text_encoder_2", "t5")):
        (path.parent / folder).mkdir()
        (path.parent / folder / "config.json").write_text(json.dumps({"model_type": kind}))
        (path.parent / folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (path.parent / "tokenizer_2").mkdir()
    (path.parent / "tokenizer_2" / "tokenizer.json").write_text("{}")
    return path


def test_numbers_of_the_reference_trainers_file(flux: Path) -> None:
    found, layers = sizes(flux, "flux", NetworkConfig(rank=8, target="full")), read_layers(flux, "flux")
    assert found is not None and found.exact and layers is not None
    assert layers.blocks == {"transformer_blocks": 19, "single_transformer_blocks": 38}
    assert found.layers == len(golden())
    assert found.lora == sum(8 * (into + out) for into, out in golden().values())
    assert 11.8e9 < found.denoiser < 11.9e9, "the blocks without their norms and biases"
    assert layers.shapes["single_transformer_blocks.0.proj_mlp"] == (12288, 3072)


@pytest.fixture
def plan(tmp_path: Path, flux: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    """`loratui plan` with the preset for FLUX.1 on a card of a size."""
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    root = project(tmp_path / "p", 3)
    text = (root / "loratui.toml").read_text().replace('base = "demo"', f'base = "{flux}"')
    (root / "loratui.toml").write_text(text.replace('"demo"', '"flux-character"'))
    parts = [w for key in ("vae", "text") for w in ("--set", f"model.{key}={flux.parent}")]

    def at(gib: float, *more: str) -> Any:
        monkeypatch.setattr(cards, "cards", lambda: [Card("a card", gib)])
        given = [w for setting in more for w in ("--set", setting)]
        code = cli.main(["plan", str(root), *parts, *given, "--json"])
        found = json.loads(capsys.readouterr().out)
        problems = {p["code"]: p for p in found["problems"]}
        return code, found["memory"], problems

    return at


def test_it_fits_a_card_of_24_gib_and_says_what_a_smaller_one_needs(plan: Any) -> None:
    code, memory, problems = plan(24.0)
    assert code == 0 and "too-large" not in problems
    assert 12 < memory["weights_gib"] < 15, "12 billion numbers in 8 bits"
    assert 9 < memory["caching_gib"] < 10, "T5 in 16 bits, alone"
    code, _, problems = plan(12.0)
    assert code == 2
    fix = problems["too-large"]["fix"]
    assert fix["memory.blocks_to_swap"] in {28, 57}
    code, memory, problems = plan(12.0, *(f"{key}={value}" for key, value in fix.items()))
    assert code == 0 and memory["total_gib"] <= 0.95 * 12 and "too-large" not in problems


def test_captions_alone_are_too_much_for_a_card_of_8_gib(plan: Any) -> None:
    code, memory, problems = plan(8.0)
    assert code == 2 and not problems["too-large"].get("fix")
    assert memory["caching_gib"] > 8
