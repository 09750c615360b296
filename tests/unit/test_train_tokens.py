"""Textual inversion and pivotal tuning: only the new rows learn, resume is exact, others load the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit
from safetensors.torch import load_file

from loratui.config.checks import check
from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.families.protocol import load_family
from loratui.train.adapter import Adapter
from loratui.train.export import export_embedding
from loratui.weights.convert import convert_embedding
from loratui.weights.header import read_header
from loratui.weights.verify import verify_file

FAMILIES = {"sd15": {"lora_te": "emb_params"}, "sd2": {"lora_te": "emb_params"},
            "sdxl": {"lora_te1": "clip_l", "lora_te2": "clip_g"}}  # fmt: skip


def settings(**changes):
    return kit.tiny_config(
        **{
            "optimizer__steps": 8, "saving__every": 1, "saving__keep": 99, "network__tokens": 3,
            "network__token_init": "red fox", "network__token_lr": 2e-2, "data__caption_dropout": 0.2,
        } | changes
    )  # fmt: skip


@pytest.mark.parametrize("only", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_run(family: str, only: bool, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    base = request.getfixturevalue(f"tiny_{family}")
    config = settings(network__tokens_only=only, samples__every=8)
    run = kit.make_run(tmp_path, base, config, "ti", family=family)
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished"
    assert not [e for e in events if e["kind"] == "sample_failed"]
    rates = next(e for e in events if e["kind"] == "step")["lr"]
    assert rates == ({"tokens": 2e-2} if only else {"unet": 1e-2, "tokens": 2e-2})
    kinds = [e["format"] for e in events if e["kind"] == "exported"]
    assert kinds == (["embedding"] if only else ["embedding", "kohya"])
    embedding = run.export_dir / "sks-thing-embedding.safetensors"
    file = load_file(embedding)
    told = read_header(embedding).metadata
    assert told["modelspec.architecture"].endswith("/textual-inversion")
    assert told["modelspec.trigger_phrase"] == "sks-thing-embedding"
    assert told["ss_learning_rate"] == "0.02" and not [k for k in told if k.startswith("ss_network")]
    found = verify_file(embedding)
    assert (found.ok, found.family, found.format, found.vectors) == (True, family, "embedding", 3)
    parts = load_family(family).load(base, torch.float32)
    widths = {FAMILIES[family][k]: t.config.hidden_size for k, t in parts.text_encoders.items()}
    assert {n: tuple(t.shape) for n, t in file.items()} == {n: (3, w) for n, w in widths.items()}
    first, last = (load_file(run.checkpoints_dir / f"step-00000{n}" / "lora.safetensors") for n in (1, 8))
    moved = [n for n in first if n.startswith("bundle_emb.sks-thing.") and not torch.equal(first[n], last[n])]
    assert len(moved) == len(widths)
    kept = tmp_path / "of-a-checkpoint.safetensors"
    convert_embedding(run.checkpoints_dir / "step-000008" / "lora.safetensors", kept, config.saving.dtype)
    assert kit.tensor_hash(kept) == kit.tensor_hash(embedding)
    if not only:
        lora = run.export_dir / "ti.safetensors"
        assert verify_file(lora).ok and not any("bundle_emb" in n for n in load_file(lora))
        assert verify_file(run.checkpoints_dir / "step-000008" / "lora.safetensors").ok
    again = kit.make_run(tmp_path, base, config, "again", family=family)
    shutil.copytree(run.checkpoints_dir / "step-000003", again.checkpoints_dir / "step-000003")
    kit.run_job_here(again)
    last_file = "checkpoints/step-000008/lora.safetensors"
    assert kit.tensor_hash(again.path / last_file) == kit.tensor_hash(run.path / last_file)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_file_does_in_another_program_what_it_did_in_training(
    family: str, request: pytest.FixtureRequest
) -> None:
    """The rows put into a plain encoder's own table, as others do, give the same states."""
    base = request.getfixturevalue(f"tiny_{family}")
    kind = load_family(family)
    parts, plain = kind.load(base, torch.float32), kind.load(base, torch.float32)
    config = NetworkConfig(tokens=2, tokens_only=True)
    adapter = Adapter(kind, parts, config, 1, "sks thing")
    with torch.no_grad():
        (ours,) = kind.encode_captions(parts, [adapter.spell("a photo of SKS thing, red")])
        with adapter.scaled_off():
            (bare,) = kind.encode_captions(parts, [adapter.spell("a photo of sks thing, red")])
        (wanted_bare,) = kind.encode_captions(plain, ["a photo of sks thing, red"])
    assert all(torch.equal(bare[k], wanted_bare[k]) for k in bare)
    file = adapter.tokens.embedding_file()
    for key, encoder in plain.text_encoders.items():
        tokenizer = plain.tokenizers[key]
        tokenizer.add_tokens(["one-1", "one-2"], special_tokens=True)
        table = encoder.get_input_embeddings()
        rows = tokenizer.convert_tokens_to_ids(["one-1", "one-2"])
        if max(rows) >= table.num_embeddings:
            encoder.resize_token_embeddings(max(rows) + 1, mean_resizing=False)
            table = encoder.get_input_embeddings()
        table.weight.data[rows] = file[FAMILIES[family][key]]
    with torch.no_grad():
        (theirs,) = kind.encode_captions(plain, ["a photo of one-1 one-2, red"])
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-6) for k in ours)
    assert (ours["prompt_embeds"] - bare["prompt_embeds"]).abs().max() > 1e-2


def a1111_reads(file: dict[str, torch.Tensor]) -> tuple[int, int]:
    """(width, vectors), or an error, as `create_embedding_from_data` of A1111's textual_inversion.py says."""
    if "string_to_param" in file:
        raise AssertionError("the form of pickles")
    if "clip_g" in file and "clip_l" in file:
        return file["clip_g"].shape[-1] + file["clip_l"].shape[-1], file["clip_g"].shape[0]
    assert len(file) == 1, "embedding file has multiple terms in it"
    (vectors,) = file.values()
    return vectors.shape[-1], vectors.shape[0]


def comfyui_reads(file: dict[str, torch.Tensor], key: str) -> torch.Tensor:
    """What `load_embed` of ComfyUI's sd1_clip.py takes of a file for an encoder."""
    return file[key] if key in file else next(iter(file.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_others_find_the_vectors_by_their_keys(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind = load_family(family)
    parts = kind.load(request.getfixturevalue(f"tiny_{family}"), torch.float32)
    adapter = Adapter(kind, parts, NetworkConfig(tokens=3, tokens_only=True), 1, "sks thing")
    path = tmp_path / "it.safetensors"
    export_embedding(path, adapter.tokens.embedding_file(), "fp16")
    file = load_file(path)
    widths = [encoder.config.hidden_size for encoder in parts.text_encoders.values()]
    assert a1111_reads(file) == (sum(widths), 3)
    assert set(file) == set(FAMILIES[family].values())
    for key, name in {"lora_te": "clip_l", "lora_te1": "clip_l", "lora_te2": "clip_g"}.items():
        if key in parts.text_encoders:
            rows = adapter.tokens.rows[key].detach()
            assert torch.equal(comfyui_reads(file, name), rows.half())


def test_only_the_rows_learn(tiny_sd15: Path) -> None:
    kind = load_family("sd15")
    parts = kind.load(tiny_sd15, torch.float32)
    adapter = Adapter(kind, parts, NetworkConfig(tokens=2, tokens_only=True), 1, "sks thing")
    trained = {p for host in parts.networks() for p in host.parameters() if p.requires_grad}
    assert trained == set(adapter.parameters()) and len(trained) == 1
    kind.encode_batch(parts, [adapter.spell("sks thing")])["prompt_embeds"].square().mean().backward()
    (rows,) = trained
    assert bool((rows.grad.abs().sum(dim=1) > 0).all())
    again = Adapter(kind, kind.load(tiny_sd15, torch.float32), NetworkConfig(tokens=2), 1, "sks thing")
    assert torch.equal(again.tokens.rows["lora_te"], rows)


def test_what_cannot_be_is_refused(tiny_sd15: Path, tmp_path: Path) -> None:
    kind = load_family("sd15")
    with pytest.raises(ConfigError, match="no trigger"):
        Adapter(kind, kind.load(tiny_sd15, torch.float32), NetworkConfig(tokens=2), 1, " ")
    run = kit.make_run(tmp_path, tiny_sd15, settings(), "x")
    run.manifest_path.write_text(run.manifest_path.read_text().replace("sks thing", "a dog"))
    context = kit.job_context(run)
    from loratui.jobs import train as job

    with pytest.raises(ConfigError, match="No caption holds the trigger"):
        job.main(context)
    context.journal.close()
    wrong = kit.tiny_config(network__tokens_only=True)
    assert {p.code for p in check(wrong) if p.severity == "error"} == {"no-tokens"}
