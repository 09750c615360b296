"""Going on from a LoRA file: the same change to the base in both formats and at another alpha."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.errors import ConfigError
from loratui.families.sd15 import FAMILY
from loratui.train.adapter import Adapter
from loratui.train.warmstart import start_from
from loratui.weights.convert import convert_file


def fresh(base: Path, **changes) -> Adapter:
    return Adapter(FAMILY, FAMILY.load(base, torch.float32), kit.tiny_config(**changes).network, 9)


def updates(adapter: Adapter) -> dict[str, torch.Tensor]:
    found, tensors = {}, adapter.tensors()
    for name, up in tensors.items():
        if name.endswith(".lora_up.weight"):
            stem = name.removesuffix(".lora_up.weight")
            down = tensors[f"{stem}.lora_down.weight"]
            found[stem] = (up.flatten(1) @ down.flatten(1)) * tensors[f"{stem}.alpha"] / down.shape[0]
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path):
    """A trained run's file, and its project."""
    project = tmp_path_factory.mktemp("warm")
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(optimizer__steps=3), "first")
    kit.run_job_here(run)
    return project, run.export_dir / "first.safetensors"


@pytest.mark.parametrize("format", ["kohya", "peft"])
@pytest.mark.parametrize("alpha", [2.0, 4.0])
def test_the_update_is_that_of_the_file(
    trained, tiny_sd15: Path, tmp_path: Path, format: str, alpha: float
) -> None:
    _, source = trained
    path = tmp_path / "in.safetensors"
    convert_file(source, path, format, "fp32")
    plain, other = fresh(tiny_sd15), fresh(tiny_sd15, network__alpha=alpha)
    start_from(plain, source)
    assert not torch.equal(updates(plain).popitem()[1], updates(other).popitem()[1])
    start_from(other, path)
    for name, update in updates(plain).items():
        assert update.abs().max() > 0
        assert torch.allclose(updates(other)[name], update, rtol=1e-5, atol=1e-8), name


def test_a_run_begins_there(trained, tiny_sd15: Path) -> None:
    project, source = trained
    losses = {}
    for name, start in (("cold", ""), ("warm", str(source.relative_to(project)))):
        config = kit.tiny_config(network__start_from=start, optimizer__steps=2, saving__every=1)
        run = kit.make_run(project, tiny_sd15, config, name)
        losses[name] = [e["loss"] for e in kit.run_job_here(run) if e["kind"] == "step"]
    assert losses["cold"][0] != losses["warm"][0]


def test_what_does_not_fit_is_said(trained, tiny_sd15: Path, tmp_path: Path) -> None:
    _, source = trained
    with pytest.raises(ConfigError, match="another rank") as caught:
        start_from(fresh(tiny_sd15, network__rank=8), source)
    assert "resize" in caught.value.advice
    with pytest.raises(ConfigError, match="the file lacks"):
        start_from(fresh(tiny_sd15, network__target="full"), source)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="start_from"):
        start_from(fresh(tiny_sd15), tmp_path / "x.safetensors")


def test_new_tokens_begin_anew_beside_it(trained, tiny_sd15: Path) -> None:
    project, source = trained
    start = str(source.relative_to(project))
    config = kit.tiny_config(network__start_from=start, network__tokens=2, optimizer__steps=1)
    run = kit.make_run(project, tiny_sd15, config, "pivotal")
    assert kit.run_job_here(run)[-1]["state"] == "finished"
