"""Samples drawn after a training: strengths, other LoRAs beside, other bases, embeddings, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_kit as kit
from PIL import Image
from safetensors.torch import load_file, save_file

from loratui.errors import RequestError, WeightsError
from loratui.jobs import sample as job
from loratui.project import drawing
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.launch import open_attempt
from loratui.runs.status import status

PROMPTS = ("a red square", "a blue circle")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path) -> RunDir:
    """A run whose LoRA is strong enough to be seen, with samples at steps 0 and 6."""
    config = kit.tiny_config(
        optimizer__steps=6, optimizer__lr=0.1, samples__every=6, samples__prompts=PROMPTS, network__alpha=4.0
    )
    run = kit.make_run(tmp_path_factory.mktemp("project"), tiny_sd15, config, "whole")
    kit.run_job_here(run)
    return run


def draw(
    source: RunDir, monkeypatch: pytest.MonkeyPatch, **wanted: Any
) -> tuple[RunDir, list[dict[str, Any]]]:
    """Prepare and start a drawing, and run its job here."""
    started: list[RunDir] = []
    monkeypatch.setattr("loratui.runs.launch.launch", lambda run, name, **_: started.append(run))
    run = drawing.start(drawing.prepare(source, **wanted))
    assert started == [run]
    return run, run_here(run)


def run_here(run: RunDir, stop_after: int = 0) -> list[dict[str, Any]]:
    journal = Journal(run, heartbeat=False)
    open_attempt(journal, "sample", 0)
    context = kit.Context(run, journal)
    write = journal.write

    def counted(kind: str, **fields: Any) -> Any:
        if kind == "step" and fields["step"] == stop_after:
            context.stop_requested = "enough"
        return write(kind, **fields)

    journal.write = counted  # type: ignore[method-assign]
    try:
        job.main(context)
    finally:
        journal.close()
    return kit.events(run, "sample")


def pixels(run: RunDir, event: dict[str, Any]) -> np.ndarray:
    with Image.open(run.path / event["path"]) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def of(run: RunDir, events: list[dict[str, Any]], label: str, index: int = 0) -> np.ndarray:
    return pixels(run, next(e for e in events if e.get("label", "") == label and e["index"] == index))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def test_strengths_run_from_the_base_to_what_the_training_drew(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, drawn = draw(trained, monkeypatch, strengths=(0.0, 0.5, 1.0))
    assert [(e["label"], e["step"], e["seed"]) for e in drawn] == [
        ("base", 0, 1), ("base", 0, 2), ("× 0.5", 6, 1), ("× 0.5", 6, 2), ("× 1", 6, 1), ("× 1", 6, 2),
    ]  # fmt: skip
    theirs = {(e["step"], e["index"]): pixels(trained, e) for e in kit.events(trained, "sample")}
    for index in (0, 1):
        assert difference(of(run, drawn, "base", index), theirs[0, index]) == 0
        assert difference(of(run, drawn, "× 1", index), theirs[6, index]) < 0.5
        whole = difference(theirs[0, index], theirs[6, index])
        assert whole > 2, "the LoRA of this test is to be seen"
        half = of(run, drawn, "× 0.5", index)
        assert difference(half, theirs[0, index]) > 1 and difference(half, theirs[6, index]) > 1
    state = status(run)
    assert state.step == state.steps == 6 and state.job == "sample"
    with Image.open(run.path / drawn[2]["path"]) as image:
        assert json.loads(image.text["loratui"])["label"] == "× 0.5"


def test_a_lora_beside_another_adds_up(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = trained.checkpoints_dir / "step-000006" / "lora.safetensors"
    run, drawn = draw(trained, monkeypatch, strengths=(0.0, 0.5), loras=(f"{own}:0.5",))
    assert [e["label"] for e in drawn[::2]] == ["without", "× 0.5"]
    theirs = {(e["step"], e["index"]): pixels(trained, e) for e in kit.events(trained, "sample")}
    assert difference(of(run, drawn, "× 0.5"), theirs[6, 0]) < 0.5  # a half and a half
    assert difference(of(run, drawn, "without"), theirs[6, 0]) > 1


def test_another_base_of_the_family_and_new_prompts(
    trained: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = kit.tiny_base(tmp_path / "other", seed=5)
    run, drawn = draw(trained, monkeypatch, base=str(other), prompts=("{trigger} here",), seed=7)
    assert [(e["prompt"], e["seed"]) for e in drawn] == [("sks thing here", 7)]
    own, mine = draw(trained, monkeypatch, prompts=("{trigger} here",), seed=7)
    assert difference(pixels(run, drawn[0]), pixels(own, mine[0])) > 1
    again, same = draw(own, monkeypatch, prompts=("sks thing here",), seed=7)  # from the run that drew
    assert difference(pixels(again, same[0]), pixels(own, mine[0])) == 0
    assert drawing.read(again)["source"] == trained.id


def test_an_embedding_is_called_by_its_name(
    trained: RunDir, tiny_sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = load_file(tiny_sd15 / "text_encoder" / "model.safetensors")
    table_VD = next(t for name, t in table.items() if name.endswith("token_embedding.weight"))
    letters = [ord(c) - ord("!") for c in "xy"]  # CLIP's first tokens are the printable bytes
    letters[-1] += 256  # the last one of a word
    save_file({"emb_params": table_VD[letters].contiguous()}, tmp_path / "blob-embedding.safetensors")
    files = (str(tmp_path / "blob-embedding.safetensors"),)
    run, drawn = draw(
        trained, monkeypatch, prompts=("a blob", "a xy", "a thing"), embeddings=files, strengths=(0.0,)
    )
    shots = [pixels(run, e) for e in sorted(drawn, key=lambda e: e["index"])]
    noise = {e["index"]: e["seed"] for e in drawn}
    assert noise == {0: 1, 1: 2, 2: 3}
    same, mine = draw(trained, monkeypatch, prompts=("a xy",), strengths=(0.0,))
    assert difference(shots[0], pixels(same, mine[0])) < 0.5
    save_file({"emb_params": torch.zeros(2, 7)}, tmp_path / "narrow.safetensors")
    with pytest.raises(WeightsError, match="is 7 wide"):
        draw(trained, monkeypatch, embeddings=(str(tmp_path / "narrow.safetensors"),))


def test_what_broke_off_goes_on_and_the_base_is_left_as_it_was(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loratui.runs.launch.launch", lambda run, name, **_: None)
    run = drawing.start(drawing.prepare(trained, strengths=(1.0, 0.0), checkpoints=("3", "last")))
    assert len(run_here(run, stop_after=3)) == 3
    drawn = run_here(run)
    assert [(e["step"], e.get("label")) for e in drawn[::2]] == [(0, "base"), (3, None), (6, None)]
    assert len({e["path"] for e in drawn}) == len(drawn) == 6
    assert difference(of(run, drawn, "base"), pixels(run, drawn[-2])) > 1
    assert [(s.step, s.label) for s in status(run).samples][::2] == [(0, "base"), (3, ""), (6, "")]


def test_every_problem_is_named_at_once(trained: RunDir, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    before = sorted(trained.path.parent.iterdir())
    with pytest.raises(RequestError) as caught:
        drawing.prepare(
            trained, checkpoints=("7",), strengths=(float("nan"),), base=str(tmp_path / "none"),
            loras=(str(tmp_path / "text.safetensors"), "x.safetensors:99"),
            embeddings=(str(tmp_path / "a.pt"),),
        )  # fmt: skip
    found = {p.code for p in caught.value.problems}
    assert found == {"no-checkpoint", "bad-strength", "bad-base", "bad-lora", "bad-embedding"}
    assert sorted(trained.path.parent.iterdir()) == before


def trained_weight(slot: Any, kind: str) -> torch.Tensor:
    """W' of a slot; of a DoRA by the paper's equation 5."""
    weight = slot.layer.get_base_layer().weight.detach()
    changed = weight + slot.layer.get_delta_weight("default").detach()
    if kind != "dora":
        return changed
    shape = (-1, *[1] * (weight.ndim - 1))
    magnitude = slot.layer.lora_magnitude_vector["default"].weight.detach().reshape(shape)
    return magnitude * changed / changed.flatten(1).norm(dim=1).reshape(shape)


@pytest.mark.parametrize("kind", ["lora", "dora", "lokr"])
def test_every_module_of_sdxl_is_found_and_left_bit_by_bit(
    kind: str, tiny_sdxl: Path, tmp_path: Path
) -> None:
    from loratui.config.schema import NetworkConfig
    from loratui.families.protocol import load_family
    from loratui.train.adapter import Adapter
    from loratui.train.patched import Patched

    family = load_family("sdxl")
    config = NetworkConfig(kind=kind, rank=2, alpha=1.0, target="full+conv", text_encoder=True)
    parts = family.load(tiny_sdxl, torch.float32)
    adapter = Adapter(family, parts, config, seed=1)
    with torch.no_grad():
        for n, parameter in enumerate(adapter.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n)))
    file = tmp_path / "lora.safetensors"
    save_file(adapter.network_tensors(), file, metadata=family.metadata(parts))
    wanted = {slot.name: trained_weight(slot, kind) for slot in adapter.slots}
    bare = family.load(tiny_sdxl, torch.float32)
    before = [p.clone() for n in bare.networks() for p in n.parameters()]
    patched = Patched(family, bare)
    patched.put([(file, 1.0)])
    assert set(patched._kept) == set(wanted)
    for name, weight in wanted.items():
        torch.testing.assert_close(patched._modules[name].weight.data, weight, atol=2e-6, rtol=1e-5)
    patched.put([])
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, [p for n in bare.networks() for p in n.parameters()], strict=True)
    )
