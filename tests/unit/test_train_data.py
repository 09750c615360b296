"""What [data] makes of pictures and captions, trained: exact at resume, counted as planned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import train_kit as kit
from PIL import Image

from loratui.config.schema import RunConfig
from loratui.plan.held import held_back
from loratui.plan.plan import plan
from loratui.project import manifest
from loratui.project.collection import Collection
from loratui.project.project import Project
from loratui.runs.directory import RunDir
from loratui.train import batches
from loratui.train.samples import Picture, read_manifest
from loratui.train.validation import split

WAYS: dict[str, dict[str, Any]] = {
    "several resolutions": {"data__also_at": (8,), "objective__validation_share": 0.3},
    "a line of the caption": {"data__caption_lines": "random"},
    "versions of pictures": {
        "data__crop": "random",
        "data__bucketing": False,
        "data__colour_jitter": 0.2,
        "data__variants": 3,
        "objective__validation_share": 0.3,
        "optimizer__accumulation": 2,
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resume_ends_in_the_same_bytes(tmp_path: Path, tiny_sd15: Path, way: str) -> None:
    config = kit.tiny_config(
        **WAYS[way], saving__every=1, saving__keep=9, optimizer__steps=4, data__flip=True
    )
    whole = kit.make_run(tmp_path, tiny_sd15, config, "whole")
    assert kit.run_job_here(whole)[-1]["state"] == "finished"
    resumed = kit.make_run(tmp_path, tiny_sd15, config, "resumed")
    shutil.copytree(whole.checkpoints_dir / "step-000002", resumed.checkpoints_dir / "step-000002")
    assert kit.run_job_here(resumed)[-1]["state"] == "finished"

    last = "checkpoints/step-000004/lora.safetensors"
    assert kit.tensor_hash(whole.path / last) == kit.tensor_hash(resumed.path / last)
    plain = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(optimizer__steps=4, data__flip=True), "plain")
    kit.run_job_here(plain)
    assert kit.tensor_hash(whole.path / last) != kit.tensor_hash(plain.path / last), "the option does nothing"


def project_of(root: Path, count: int) -> Project:
    folder = root / "pictures"
    folder.mkdir(parents=True)
    for n in range(count):
        Image.new("RGB", (20 + 8 * (n % 3), 20), (10 * n, 90, 120)).save(folder / f"{n}.png")
        (folder / f"{n}.txt").write_text(f"sks thing {n}")
    return Project.create(root / "p", "", "sks", folder)


def test_what_is_held_back_is_counted_out_of_the_steps(tmp_path: Path) -> None:
    project = project_of(tmp_path, 11)
    config = kit.tiny_config(
        objective__validation_share=0.3, data__also_at=(8,), optimizer__steps=0, optimizer__epochs=3,
    )  # fmt: skip
    scan = project.scan(config.data)
    run = RunDir.create(tmp_path / "runs", "r")
    manifest.write(run, project, config, scan)
    trained, held = split(read_manifest(run.manifest_path), 0.3, config.objective.seed)
    planned = plan(project, config, scan)

    assert {p.rel for p in held} == held_back(scan.pictures, 0.3, config.objective.seed)
    assert len({p.rel for p in held}) == 3 and not {p.rel for p in held} & {p.rel for p in trained}
    assert len(held) + len(trained) == 22  # each at two resolutions
    assert sum(b.repeated for b in planned.buckets) == len(trained)
    buckets = {p.bucket.size for p in trained}
    batches = sum(-(-sum(p.bucket.size == size for p in trained) // 2) for size in buckets)
    assert planned.per_epoch == batches and planned.steps == 3 * batches
    without = replace(config, objective=replace(config.objective, validation_share=0.0))
    assert plan(project, without, scan).steps > planned.steps
    rows = [json.loads(line) for line in run.manifest_path.read_text().splitlines()]
    assert {r["rel"] for r in rows if r.get("held")} == {p.rel for p in held}


def test_lines_of_captions_and_weights_reach_the_manifest(tmp_path: Path) -> None:
    project = project_of(tmp_path, 3)
    scan = project.scan()
    several, weighed = scan.pictures[0].path, scan.pictures[1].path
    several.with_suffix(".txt").write_text("sks one\n\n a red thing \nsks, seen from afar\n")
    Collection(project, RunConfig().data).note({weighed: 0.25}, "weight", "weight 0.25")
    found: dict[str, list[Picture]] = {}
    for way in ("all", "first", "random"):
        config = kit.tiny_config(data__caption_lines=way)
        run = RunDir.create(tmp_path / "runs", way)
        manifest.write(run, project, config, project.scan(config.data))
        found[way] = read_manifest(run.manifest_path)

    assert [p.weight for p in found["all"]] == [1.0, 0.25, 1.0]
    assert found["all"][0].captions == ("sks one a red thing sks, seen from afar",)
    assert found["first"][0].captions == ("sks one",)
    assert found["random"][0].captions == ("sks one", "a red thing", "sks, seen from afar")
    assert found["random"][1].captions == ("sks thing 1",) and not found["random"][1].lines
    drawn = [found["random"][0].caption_at(1, step, slot) for step in range(60) for slot in range(2)]
    assert all(20 < drawn.count(line) < 60 for line in found["random"][0].lines)
    assert drawn == [found["random"][0].caption_at(1, step, slot) for step in range(60) for slot in range(2)]


def test_all_lines_are_encoded_ahead(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = kit.tiny_config(data__caption_lines="random", optimizer__steps=6)
    run = kit.make_run(tmp_path, tiny_sd15, config)
    seen: set[str] = set()
    at = batches.Batches.at

    def spy(self: Any, step: int, micro: int) -> Any:
        batch = at(self, step, micro)
        seen.update(batch.captions)
        return batch

    monkeypatch.setattr(batches.Batches, "at", spy)
    kit.run_job_here(run)
    texts = list((tmp_path / ".loratui" / "cache" / "text").rglob("*.safetensors"))
    lines = {c for p in read_manifest(run.manifest_path) for c in p.captions}
    assert len(lines) == 10 and len(texts) == 11, "every line, and none"
    assert len(seen) > 5 and seen <= lines
