"""Memory that runs out: in training it stops with what would have fitted, in a sample training goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import train_kit as kit
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from PIL import Image

from loratui.config.schema import RunConfig
from loratui.errors import OutOfMemoryError
from loratui.plan.memory import GIB, checkpoint_bytes, estimate, state_bytes
from loratui.plan.sizes import sizes
from loratui.plan.smaller import smaller
from loratui.train import loop
from loratui.train.preview import elsewhere
from loratui.train.shortage import is_out_of_memory
from loratui.train.swap import Swap


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_which_errors_are_it() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 60)
    assert (
        is_out_of_memory(found.value)
        and is_out_of_memory(MemoryError())
        and is_out_of_memory(out_of_memory())
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError(12, "Cannot allocate memory"))


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
def test_steps_down_are_in_order_and_each_needs_less(family: str) -> None:
    size = sizes(None, family, kit.tiny_config().network)
    assert size is not None
    config = kit.tiny_config(
        model__family=family, network__text_encoder=True, data__batch_size=4, data__resolution=1024,
        data__min_bucket=256, data__max_bucket=2048, data__bucket_step=64,
    )  # fmt: skip
    every = smaller(config, size, 1024**2, 0.5 * GIB)
    assert [next(iter(s.changes)) for s in every][:7] == [
        "memory.gradient_checkpointing", "optimizer.name", "network.text_encoder", "data.batch_size",
        "memory.base_weights", "memory.blocks_to_swap", "memory.blocks_to_swap",
    ]  # fmt: skip
    assert {"data.resolution"} == {k for s in every[7:] for k in s.changes}
    assert every[3].changes["optimizer.accumulation"] == 4
    totals = [s.total_gib for s in every]
    assert totals == sorted(totals, reverse=True) and len(set(totals)) == len(totals)

    enough = smaller(config, size, 1024**2, totals[4] * GIB / 0.95)
    assert [s.fits for s in enough] == [False] * (len(enough) - 1) + [True]
    assert 1 <= len(enough) <= 5
    # What ran out on a card needs at least that card, whatever the estimate says of it.
    huge = smaller(config, size, 1024**2, 200 * GIB)
    assert huge[0].total_gib < 200 and not smaller(RunConfig(), size, 512**2, 80 * GIB)[0].total_gib > 80


def test_the_estimate_counts_each_way_to_save() -> None:
    size = sizes(None, "sdxl", kit.tiny_config().network)
    assert size is not None
    plain = kit.tiny_config(model__family="sdxl", memory__precision="bf16")
    start = estimate(plain, size, 1024**2).weights_gib

    def weights(**changes: object) -> float:
        return estimate(
            kit.tiny_config(model__family="sdxl", memory__precision="bf16", **changes), size, 1024**2
        ).weights_gib

    assert weights(memory__base_weights="fp8") == pytest.approx(start * 0.55)
    assert weights(memory__base_weights="nf4") < weights(memory__base_weights="int8") < start
    assert weights(memory__blocks_to_swap=80) < 0.3 * start
    assert weights(memory__blocks_to_swap=2) == start  # two are on the device at any time


def test_state_is_that_of_the_optimizer() -> None:
    def config(name: str, ema: float = 0.0) -> RunConfig:
        return kit.tiny_config(optimizer__name=name, objective__ema_decay=ema)

    assert state_bytes(config("adamw")) == 8 and state_bytes(config("adamw8bit")) == 2
    assert [checkpoint_bytes(config(n)) for n in ("adamw", "lion8bit", "schedule_free")] == [12, 5, 16]
    assert checkpoint_bytes(config("adamw", 0.99)) == 16


@pytest.mark.parametrize("name", ["adamw", "schedule_free", "lion"])
def test_checkpoints_are_as_large_as_foreseen(tmp_path: Path, tiny_sd15: Path, name: str) -> None:
    config = kit.tiny_config(
        optimizer__name=name, optimizer__steps=2, optimizer__schedule="constant", saving__every=2,
        network__rank=64,
    )  # fmt: skip
    run = kit.make_run(tmp_path, tiny_sd15, config)
    kit.run_job_here(run)
    found = sum(p.stat().st_size for p in (run.checkpoints_dir / "step-000002").rglob("*"))
    size = sizes(tiny_sd15, "sd15", config.network)
    assert size is not None and found == pytest.approx(size.lora * checkpoint_bytes(config), rel=0.2)


def test_training_stops_within_the_step_and_says_what_fits(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config())
    real, calls = loop.optimizer_step, []

    def step(t: loop.Training) -> None:
        calls.append(t.step)
        if t.step == 4:
            raise out_of_memory()
        real(t)

    monkeypatch.setattr(loop, "optimizer_step", step)
    with pytest.raises(OutOfMemoryError) as found:
        kit.run_job_here(run)
    message, advice = found.value.message, found.value.advice
    assert "at step 5 (batch 2, 16 px, fp32, adamw" in message and "step 3 is kept" in message
    assert advice.index("memory.gradient_checkpointing = true") < advice.index("optimizer.name = adamw8bit")
    assert calls == [0, 1, 2, 3, 4] and kit.events(run, "step")[-1]["step"] == 4
    assert [p.name for p in run.checkpoints_dir.iterdir()] == ["step-000003"]

    monkeypatch.setattr(loop, "optimizer_step", real)
    assert kit.run_job_here(run)[-1]["state"] == "finished"
    straight = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(), "straight")
    kit.run_job_here(straight)
    hashes = [kit.tensor_hash(next(r.export_dir.glob("*.safetensors"))) for r in (run, straight)]
    assert hashes[0] == hashes[1]


def sampling(tmp_path: Path, base: Path, name: str, **changes: object) -> kit.RunDir:
    config = kit.tiny_config(
        optimizer__steps=2,
        saving__every=2,
        samples__every=1,
        samples__width=32,
        samples__height=32,
        **changes,
    )
    return kit.make_run(tmp_path, base, config, name)


def test_a_sample_that_does_not_fit_is_drawn_in_tiles(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sampling(tmp_path, tiny_sd15, "plain")
    kit.run_job_here(plain)
    real, largest = AutoencoderKL._decode, []

    def decode(self: AutoencoderKL, z: torch.Tensor, return_dict: bool = True) -> object:
        if not self.use_tiling:
            raise out_of_memory()
        return real(self, z, return_dict=return_dict)

    def forward(self: object, z: torch.Tensor, *args: object) -> torch.Tensor:
        largest.append(max(z.shape[-2:]))
        return real_forward(self, z, *args)

    real_forward = Decoder.forward
    monkeypatch.setattr(AutoencoderKL, "_decode", decode)
    monkeypatch.setattr(Decoder, "forward", forward)
    run = sampling(tmp_path, tiny_sd15, "short")
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished" and max(largest) == 8  # half of the 16 latent px
    assert [e["code"] for e in events if e["kind"] == "warning"] == ["sample-memory"]
    drawn = [e for e in events if e["kind"] == "sample"]
    assert len(drawn) == 6 and all(e["sparing"] and e["width"] == 32 for e in drawn)
    assert not kit.events(run, "sample_failed")
    # Training itself is untouched by how its samples are drawn.
    hashes = [kit.tensor_hash(next(r.export_dir.glob("*.safetensors"))) for r in (run, plain)]
    assert hashes[0] == hashes[1]
    for e in drawn:
        with Image.open(run.path / e["path"]) as a, Image.open(plain.path / e["path"]) as b:
            difference = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()
            assert difference < 25


def test_a_sample_that_never_fits_is_said_and_training_goes_on(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*args: object, **kwargs: object) -> object:
        raise out_of_memory()

    monkeypatch.setattr(AutoencoderKL, "decode", decode)
    run = sampling(tmp_path, tiny_sd15, "never")
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished" and not kit.events(run, "sample")
    failed = kit.events(run, "sample_failed")
    assert len(failed) == 6 and all(
        "in tiles" in e["error"] and "CUDA out of memory" in e["error"] for e in failed
    )


def test_weights_come_back_as_they_were_and_swapped_ones_stay_away() -> None:
    torch.manual_seed(0)
    block, other = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64).requires_grad_(False)
    model = torch.nn.Sequential(block, other)
    Swap([other], torch.device("cpu"))
    before, parameter = block.weight.detach().clone(), block.weight
    with elsewhere([model], torch.device("cpu")):
        assert other.weight.untyped_storage().nbytes() == 4
    assert torch.equal(block.weight, before) and block.weight is parameter
    assert other.weight.untyped_storage().nbytes() == 4
