"""Pictures of the class that the base draws before a training: planned, drawn, kept, gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import train_kit as kit
from PIL import Image

from loratui.config.checks import check
from loratui.plan.plan import plan
from loratui.project import Project, manifest
from loratui.project.regularisation import class_folder, class_pictures
from loratui.project.start import assess
from loratui.runs.directory import RunDir
from loratui.train.assemble import Stopped, assemble
from loratui.train.preview import Request
from loratui.train.samples import read_manifest

PROMPT = "a (red:1.3) robot"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project.create(tmp_path / "p", "demo", "sks robot", preset="demo")
    for n in range(7):
        Image.new("RGB", (64, 64), (n * 30, 0, 0)).save(project.root / "dataset" / f"{n}.png")
        (project.root / "dataset" / f"{n}.txt").write_text("sks robot")
    return project


def test_they_are_planned_as_if_they_were_there(project: Project, tmp_path: Path) -> None:
    config = project.resolve(
        "demo",
        {"data.reg_generate": 5, "data.reg_prompt": PROMPT, "data.reg_weight": 0.5, "epochs": 3, "steps": 0},
    )
    ready = assess(project, config)
    assert ready.errors == [] and ready.plan.class_pictures == 5
    assert "class-drawn" in {p.code for p in ready.plan.problems}
    assert ready.plan.repeated == 14 and ready.plan.as_json()["class_pictures_to_draw"] == 5
    run = RunDir.create(tmp_path / "runs", "r")
    assert manifest.write(run, project, ready.config) == 12
    rows = [row for row in read_manifest(run.manifest_path) if row.reg]
    assert len({row.seed for row in rows}) == 5 and {row.hash for row in rows} == {""}
    assert {row.caption for row in rows} == {"a red robot"} and sum(row.repeats for row in rows) == 7
    assert {(row.weight, row.bucket.size) for row in rows} == {(0.5, (64, 64))}
    folder = class_folder(project, ready.config)
    assert folder is not None and folder.parent == project.root / "class" and not folder.exists()
    assert folder.name.startswith("a-red-robot-")

    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "00003.png")
    again = assess(project, config)
    assert again.plan.class_pictures == 4 and again.plan.steps == ready.plan.steps
    other = project.resolve("demo", {"data.reg_generate": 5, "data.reg_prompt": "a cat"})
    assert class_folder(project, other) != folder


def test_no_more_than_are_seen_in_an_epoch(project: Project) -> None:
    config = project.resolve("demo", {"data.reg_generate": 50, "data.reg_prompt": PROMPT})
    scan = project.scan(config.data)
    found = class_pictures(project, config, scan.pictures)
    assert len(found) == 7 and {p.repeats for p in found} == {1}
    planned = plan(project, config, scan, class_pictures=found)
    assert [dict(p.fix) for p in planned.problems if p.code == "class-surplus"] == [{"data.reg_generate": 7}]


def test_what_is_wrong_with_the_settings() -> None:
    def codes(**changes: Any) -> set[str]:
        return {p.code for p in check(kit.tiny_config(**changes))}

    assert {"reg-twice", "no-reg-prompt"} <= codes(data__reg_generate=5, data__reg_dir="class")
    assert "reg-prompt-off" in codes(data__reg_prompt="a cat")
    assert not codes(data__reg_generate=5, data__reg_prompt="a cat") & {"reg-twice", "no-reg-prompt"}


def run_with_class(root: Path, base: Path, name: str, **changes: Any) -> RunDir:
    """A run of five pictures and three that are to be drawn."""
    config = kit.tiny_config(
        data__reg_generate=3, data__reg_prompt=PROMPT, optimizer__steps=4, saving__every=2, **changes
    )
    run = kit.make_run(root, base, config, name)
    rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
    for n in range(3):
        path = root / "class" / f"{n:05d}.png"
        rows.append(
            {
                "path": str(path), "rel": f"class/{path.name}", "hash": "", "seed": 100 + n, "width": 16,
                "height": 16, "caption": "a red robot", "repeats": 1, "bucket": [16, 16], "scaled": [16, 16],
                "crop": [0, 0, 16, 16], "reg": True, "weight": 0.5,
            }
        )  # fmt: skip
    run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_the_bare_base_draws_them_and_an_interrupted_run_goes_on(tmp_path: Path, tiny_sd15: Path) -> None:
    run = run_with_class(tmp_path, tiny_sd15, "one")
    context = kit.job_context(run)
    seen = context.controls

    def stop_after_two() -> list[Any]:
        if (tmp_path / "class" / "00001.png").exists():
            context.stop_requested = "stop"
        return seen()

    context.controls = stop_after_two
    with pytest.raises(Stopped):
        assemble(context)
    context.journal.close()
    first = {p.name: p.read_bytes() for p in sorted((tmp_path / "class").glob("*.png"))}
    assert sorted(first) == ["00000.png", "00001.png"]
    assert any(p.seed is not None for p in read_manifest(run.manifest_path))

    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished"
    told = [e for e in events if e["kind"] == "progress" and e["what"] == "drawing class pictures"]
    assert {(e["done"], e["total"]) for e in told} >= {(0, 3), (0, 1), (1, 1)}
    assert all((tmp_path / "class" / name).read_bytes() == data for name, data in first.items())
    rows = [p for p in read_manifest(run.manifest_path) if p.reg]
    assert all(len(p.hash) == 64 and p.seed is None and p.path.exists() for p in rows)
    assert (tmp_path / "class" / "00000.txt").read_text() == "a red robot\n"
    steps = kit.events(run, "step")
    assert [e["step"] for e in steps] == [1, 2, 3, 4]

    plain = assemble(kit.job_context(kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(), "bare")))
    requests = [Request(PROMPT, "", 100 + n, 16, 16, 3, 3.0, "ddim") for n in range(3)]
    with plain.adapter.scaled_off():
        for picture, request in zip(rows, requests, strict=True):
            drawn = plain.preview.draw([request])[0]
            with Image.open(picture.path) as kept:
                assert kept.tobytes() == drawn.tobytes()
                assert kept.text["parameters"].startswith(PROMPT)  # type: ignore[attr-defined]

    again = run_with_class(tmp_path, tiny_sd15, "two")
    for event in kit.run_job_here(again):
        assert event["kind"] != "progress" or event["what"] != "drawing class pictures" or not event["total"]
    last = "checkpoints/step-000004/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(again.path / last)


def test_trained_text_encoders_and_tokens_do_not_show_in_them(tmp_path: Path, tiny_sd15: Path) -> None:
    bytes_of = []
    for name, changes in (
        ("plain", {}), ("text", {"network__text_encoder": True}), ("tokens", {"network__tokens": 2}),
    ):  # fmt: skip
        run = run_with_class(tmp_path / name, tiny_sd15, name, **changes)
        training = assemble(kit.job_context(run))
        assert training.batches.per_epoch and not any(p.seed for p in training.batches.pictures)
        bytes_of.append([Image.open(p.path).tobytes() for p in training.batches.pictures if p.reg])
    assert len(bytes_of[0]) == 3 and bytes_of[0] == bytes_of[1] == bytes_of[2]
    assert torch.get_num_threads() == 1
