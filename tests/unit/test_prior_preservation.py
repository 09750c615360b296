"""Pictures of the class beside those of the one thing: counted, balanced, weighted, refused when wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import train_kit as kit
from PIL import Image
from test_train_objective import alphas

from loratui.config.schema import RunConfig
from loratui.errors import RequestError
from loratui.project import Project, manifest
from loratui.project.start import assess, prepare
from loratui.runs.directory import RunDir
from loratui.train.assemble import assemble
from loratui.train.objective import Objective
from loratui.train.samples import read_manifest


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Seven pictures of its own; three of the class in a kohya folder with repeats, one of them captioned."""
    project = Project.create(tmp_path / "p", "demo", "sks robot", preset="demo")
    for n in range(7):
        Image.new("RGB", (64, 64), (n * 30, 0, 0)).save(project.root / "dataset" / f"{n}.png")
        (project.root / "dataset" / f"{n}.txt").write_text("sks robot")
    folder = project.root / "class" / "1_a robot"
    folder.mkdir(parents=True)
    for n in range(3):
        Image.new("RGB", (64, 64), (0, n * 30, 0)).save(folder / f"c{n}.png")
    (folder / "c0.txt").write_text("a robot, blue background")
    return project


def settings(project: Project, **changes: object) -> RunConfig:
    return project.resolve("demo", {"data.reg_dir": "class", "data.reg_weight": 0.5, "steps": 4, **changes})


def test_class_pictures_are_seen_as_often_as_the_own_ones(project: Project, tmp_path: Path) -> None:
    config = settings(project)
    run = RunDir.create(tmp_path / "runs", "r")
    assert manifest.write(run, project, config) == 10
    pictures = read_manifest(run.manifest_path)
    own, of_class = [p for p in pictures if not p.reg], [p for p in pictures if p.reg]
    assert (len(own), len(of_class)) == (7, 3)
    assert sum(p.repeats for p in of_class) == 7 and {p.repeats for p in of_class} == {2, 3}
    assert {p.weight for p in own} == {1.0} and {p.weight for p in of_class} == {0.5}
    assert [p.caption for p in of_class] == ["a robot, blue background", "a robot", "a robot"]
    ready = assess(project, config)
    assert ready.errors == [] and ready.plan.repeated == 14 and ready.plan.images == 7
    assert sum(b.images for b in ready.plan.buckets) == 10
    assert not {p.code for p in ready.plan.problems} & {"trigger-missing", "missing-captions"}


def test_what_cannot_be_is_an_error(project: Project) -> None:
    (project.root / "empty").mkdir()
    for folder, says in (("nowhere", "does not exist"), ("empty", "no usable picture"), ("dataset", "both")):
        with pytest.raises(RequestError, match=says):
            prepare(project, settings(project, **{"data.reg_dir": folder}))


def test_their_loss_has_its_own_weight() -> None:
    """DreamBooth's objective, eq. 2: the loss of the thing plus lambda times that of the class."""
    torch.manual_seed(1)
    answer, target = (torch.randn(2, 4, 8, 8, dtype=torch.float64) for _ in range(2))
    objective = Objective(alphas(), "epsilon")
    found = objective.losses(answer, target, torch.tensor([5, 900]), weight_B=torch.tensor([1.0, 0.3]))
    own, prior = ((answer[n] - target[n]).square().mean() for n in range(2))
    assert float(found.sum()) == pytest.approx(float(own + 0.3 * prior), rel=1e-7)


def test_a_run_trains_on_both_and_says_so(tiny_sd15: Path, tmp_path: Path) -> None:
    config = kit.tiny_config(data__batch_size=2, optimizer__steps=6)
    run = kit.make_run(tmp_path, tiny_sd15, config, "reg")
    rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
    for row in rows[:2]:
        row |= {"reg": True, "weight": 0.25}
    run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = assemble(kit.job_context(run))
    seen = {}
    for step in range(8):
        batch = training.batches.at(step, 0)
        seen |= {p.rel: w for p, w in zip(batch.pictures, batch.weight_B.tolist(), strict=True)}
    assert seen == {row["rel"]: row.get("weight", 1.0) for row in rows}
    facts = training.metadata(6)
    assert (facts["ss_num_train_images"], facts["ss_num_reg_images"]) == ("4", "3")
