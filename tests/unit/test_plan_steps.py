"""The plan: steps as the trainer counts them, sizes from shapes, disk, memory, warnings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from loratui import demo
from loratui.config.presets import load_preset, parse_set, resolve
from loratui.config.schema import NetworkConfig
from loratui.dataset.scan import BucketCount
from loratui.plan.memory import estimate
from loratui.plan.plan import plan
from loratui.plan.sizes import Sizes, numbers_per_rank
from loratui.plan.sizes import sizes as sizes_of_network
from loratui.plan.steps import bucket_plans, moments, steps_of
from loratui.project import Project
from loratui.project.demo import make_demo
from loratui.project.start import assess

GOLDEN = Path(__file__).parent.parent / "data" / "golden"


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5)), min_size=1, max_size=5),
    st.integers(1, 8), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5),
)  # fmt: skip
def test_steps_against_a_count_by_hand(
    rows: list[tuple[int, int]], batch: int, repeats: int, epochs: int, accumulation: int
) -> None:
    counts = [BucketCount(64 * n, 64, images, images * own) for n, (images, own) in enumerate(rows, 1)]
    buckets = bucket_plans(counts, batch, repeats)
    per_epoch = 0
    for images, own in rows:
        left = images * own * repeats
        while left > 0:
            left -= batch
            per_epoch += 1
    assert sum(b.batches for b in buckets) == per_epoch
    assert all((b.batches - 1) * batch + (b.leftover or batch) == b.repeated for b in buckets)
    config = resolve(None, {"epochs": epochs, "optimizer.accumulation": accumulation, "batch_size": batch})
    steps, same = steps_of(config, per_epoch)
    assert same == epochs
    assert (steps - 1) * accumulation < epochs * per_epoch <= steps * accumulation
    fixed = resolve(None, {"steps": 7, "optimizer.accumulation": accumulation})
    assert steps_of(fixed, per_epoch) == (7, math.ceil(7 * accumulation / per_epoch))


def test_nothing_comes_of_nothing() -> None:
    assert steps_of(resolve(None, {}), 0) == (0, 0)
    assert moments(0, 100) == moments(10, 0) == 0
    assert moments(250, 1000) == 4
    assert moments(300, 1000) == 4


def sizes(base: Path | None, family: str, target: str, rank: int, conv_rank: int = 0) -> Sizes | None:
    network = NetworkConfig(target=target, rank=rank, conv_rank=conv_rank)  # type: ignore[arg-type]
    return sizes_of_network(base, family, network)


def test_a_matrix_of_two_million_numbers() -> None:
    assert 2 * numbers_per_rank((1000, 2000)) == 6000
    assert numbers_per_rank((320, 4, 3, 3)) == 36 + 320


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_the_family_table_agrees_with_the_reference_trainers_files(family: str) -> None:
    targets = ("attention", "attention+mlp", "full", "full+conv")
    plain, wide, layers = (dict.fromkeys(targets, 0) for _ in range(3))
    lines = (GOLDEN / f"{family}.tsv").read_text().splitlines()
    # SD2's residual blocks are SD1's.
    more = (GOLDEN / ("sdxl_conv.tsv" if family == "sdxl" else "sd15_conv.tsv")).read_text().splitlines()
    own = {line.split("\t")[0] for line in lines}
    wider = [
        c
        for c in more
        if c.split("\t")[0] not in own and (family == "sdxl" or "samplers" in c or "resnets" in c)
    ]
    for line in [*lines, *wider]:
        name, down, up = line.split("\t")
        if not name.startswith("lora_unet"):
            continue
        count = sum(math.prod(int(n) for n in side.split("x")) for side in (down, up)) // 8
        kind = "attention" if "_attn" in name else "attention+mlp" if "_ff_" in name else "full"
        kind = "full+conv" if line in wider else kind
        for group in targets[targets.index(kind) :]:
            (wide if down.endswith("3x3") else plain)[group] += count
            layers[group] += 1
    for target in targets:
        found = sizes(None, family, target, 8, 4)
        assert found is not None
        assert (found.lora, found.layers) == (8 * plain[target] + 4 * wide[target], layers[target])
        assert not found.exact
        same = sizes(None, family, target, 8)
        assert same is not None
        assert same.lora == 8 * (plain[target] + wide[target])


def test_a_transformer_is_counted_from_the_originals_matrices(tmp_path: Path) -> None:
    """Fused q, k and v are one module of the file with one A; a file of something else is not known."""
    base = tmp_path / "flux.safetensors"
    start = "model.diffusion_model."
    rows = {"double_blocks.0.img_attn.qkv": (96, 32), "single_blocks.0.linear1": (96 + 128, 32)}
    save_file({f"{start}{n}.weight": np.zeros(s, np.float32) for n, s in rows.items()}, base)
    found = sizes(base, "flux", "attention", 16)
    assert found is not None and found.exact
    assert (found.layers, found.lora) == (2, 16 * (32 + 96) + 16 * (32 + 96 + 128))
    assert sizes(base, "sd3", "attention", 16) is None
    assert sizes(None, "flux", "attention", 16) is None


def test_sizes_of_a_real_base_come_from_its_shapes() -> None:
    found = sizes(demo.base_path(), "sd15", "attention", 16)
    assert found is not None
    assert found.exact
    assert found.lora % 16 == 0
    assert 0 < found.lora < found.denoiser
    wider = sizes(demo.base_path(), "sd15", "full", 16)
    assert wider is not None
    assert wider.lora > found.lora
    assert sizes(None, "unknown", "attention", 4) is None


def test_memory_grows_with_what_it_should() -> None:
    small = sizes(None, "sd15", "attention", 16)
    assert small is not None
    base = resolve(load_preset("sd15-character"), {})
    plain = estimate(base, small, 512 * 512).total_gib
    assert 3 < plain < 14
    changes = {"batch_size=8": True, "precision=fp32": True, "memory.gradient_checkpointing=true": False,
               "sample_every=0": False}  # fmt: skip
    for change, more in changes.items():
        changed = estimate(
            resolve(load_preset("sd15-character"), parse_set([change])), small, 512 * 512
        ).total_gib
        assert (changed > plain) == more, change
    assert estimate(base, small, 768 * 768).total_gib > plain


def test_the_plan_of_the_demo(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d")
    ready = assess(project, project.resolve())
    document = ready.plan.as_json()
    assert {"images", "steps", "epochs", "buckets", "memory", "config"} <= set(document)
    assert (document["images"], document["batches_per_epoch"], document["steps"]) == (16, 4, 600)
    assert document["epochs"] == 150
    assert document["config"]["model"]["family"] == "sd15"
    assert document["memory"]["total_gib"] > 0
    assert document["lora"]["exact"] is True
    assert ready.errors == []
    assert ready.config.samples.prompts
    assert all("{" not in p for p in ready.config.samples.prompts)


@pytest.mark.parametrize(("family", "wide"), [("sd15", 768), ("sd2", 1024), ("sdxl", 2048)])
def test_new_tokens_are_as_wide_as_all_text_encoders(family: str, wide: int) -> None:
    alone = sizes_of_network(None, family, NetworkConfig(tokens=4, tokens_only=True))
    beside = sizes_of_network(None, family, NetworkConfig(tokens=4))
    assert alone is not None and beside is not None
    assert alone.tokens == beside.tokens == 4 * wide
    assert (alone.layers, alone.lora, alone.example) == (0, 0, ())
    assert beside.lora > 0


def test_new_tokens_are_counted_from_a_bases_own_encoder(tmp_path: Path) -> None:
    folder = sizes_of_network(demo.base_path(), "sd15", NetworkConfig(tokens=3))
    assert folder is not None and folder.tokens == 3 * 160
    single = tmp_path / "base.safetensors"
    rows = {
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight": (8, 8),
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": (20, 12),
        "conditioner.embedders.1.model.token_embedding.weight": (20, 24),
    }
    save_file({name: np.zeros(shape, np.float32) for name, shape in rows.items()}, single)
    found = sizes_of_network(single, "sdxl", NetworkConfig(tokens=2))
    assert found is not None and found.tokens == 2 * (12 + 24)


def test_the_plan_of_new_tokens_alone(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d")
    usual = assess(project, project.resolve()).plan
    tokens = {"network.tokens": 4, "network.tokens_only": True}
    plan = assess(project, project.resolve(overrides=tokens)).plan
    assert (plan.lora_bytes, plan.tokens_bytes) == (0, 4 * 160 * 2)
    assert plan.as_json()["lora"] == {
        "layers": 0, "parameters": 0, "tokens": 4 * 160, "bytes": 0, "exact": True,
    }  # fmt: skip
    assert plan.disk["checkpoints"] < usual.disk["checkpoints"] / 1000
    # Captions that are learned are encoded anew each time.
    assert 0 < plan.disk["caches"] < usual.disk["caches"]


def test_text_encoders_that_learn_are_in_memory_without_samples(tmp_path: Path) -> None:
    size = sizes_of_network(None, "sdxl", NetworkConfig())
    assert size is not None
    quiet = resolve(None, parse_set(["model.family=sdxl", "samples.every=0"]))
    for change in ("network.text_encoder=true", "network.tokens=4"):
        learning = resolve(None, parse_set(["model.family=sdxl", "samples.every=0", change]))
        more = estimate(learning, size, 1024**2).weights_gib - estimate(quiet, size, 1024**2).weights_gib
        assert more == pytest.approx(size.others * 2 / (1 << 30))


def test_warnings_of_the_plan(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", "demo", "sks cat", preset="demo")
    for number in range(5):
        Image.new("RGB", (20, 20)).save(project.root / "dataset" / f"{number}.png")
    (project.root / "dataset" / "0.txt").write_text("a dog")
    config = project.resolve()
    found = plan(project, config, project.scan(config.data))
    assert {p.code for p in found.problems} >= {
        "few-images",
        "small-images",
        "missing-captions",
        "trigger-missing",
    }
    assert all(p.severity != "error" for p in found.problems)


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    project = make_demo(tmp_path / "d")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    assert "disk-full" in {p.code for p in assess(project, project.resolve()).errors}
