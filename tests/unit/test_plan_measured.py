"""The record of measurements, the estimate from fake tensors, and the dry run in its child process."""

from __future__ import annotations

import json
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import train_kit as kit

from loratui.cli import main
from loratui.config.run import RunInfo
from loratui.dataset.framing import grids
from loratui.dataset.scan import buckets_of_picture
from loratui.errors import JobError
from loratui.plan.measured import FILE, Measurement, correction, measurements, newest, remember, settings_key
from loratui.project.dryrun import Child, dry_run, largest_bucket, largest_size
from loratui.project.estimating import foresee
from loratui.project.project import Project
from loratui.project.start import prepare


def measured(**changes: object) -> Measurement:
    return replace(Measurement("k", "CPU, x", "sd15", 2.0, 0.5, 1.0, 0.1, 1.0), **changes)  # type: ignore[arg-type]


def test_the_newest_of_a_key_counts_and_broken_lines_do_not(tmp_path: Path) -> None:
    remember(measured(), tmp_path)
    with open(tmp_path / FILE, "a") as file:
        file.write('{"key": "k"}\nnot json\n[]\n')
        file.write('{"key":"k","device":"CPU, x","family":"s","peak_gib":NaN,"step_s":1}\n')
    remember(measured(step_s=0.7), tmp_path)
    rows = measurements(tmp_path)
    assert len(rows) == 2
    found = newest(rows, "k", "CPU, x")
    assert found is not None and found.step_s == 0.7
    assert newest(rows, "k", "other device") is None


def test_the_correction_is_the_median_of_the_same_family_and_device() -> None:
    rows = [measured(peak_gib=p) for p in (1.1, 1.2, 1.3)]
    assert correction(rows, "CPU, x", "sd15") == pytest.approx(1.2)
    assert correction(rows, "CPU, x", "sdxl") == 1.0
    assert correction([measured(peak_gib=50.0)], "CPU, x", "sd15") == 1.0  # of something else


def test_the_record_does_not_grow_without_end(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("x" * 100 + "\n" + ("y" * 99 + "\n") * 50_000)
    remember(measured(), tmp_path)
    assert (tmp_path / FILE).stat().st_size < 3_000_000
    assert measurements(tmp_path)[-1] == measured()


def test_the_key_is_of_what_weighs_on_memory(tmp_path: Path) -> None:
    config = kit.tiny_config()
    key = settings_key(config, tmp_path, 256)
    assert settings_key(kit.tiny_config(optimizer__lr=0.5, saving__every=9), tmp_path, 256) == key
    for changed in ({"data__batch_size": 3}, {"network__rank": 8}, {"memory__gradient_checkpointing": True}):
        assert settings_key(kit.tiny_config(**changed), tmp_path, 256) != key
    assert settings_key(config, tmp_path, 512) != key


@pytest.fixture
def project(tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LORATUI_CACHE", str(tmp_path / "cache"))
    kit.tiny_pictures(tmp_path / "pictures")
    return Project.create(
        tmp_path / "p", base=str(tiny_sd15), trigger="sks", images=tmp_path / "pictures", name="p"
    )


SMALL = {
    "data.resolution": 16, "data.bucket_step": 8, "data.min_bucket": 8, "data.max_bucket": 32,
    "data.batch_size": 2, "memory.precision": "fp32", "memory.device": "cpu", "network.rank": 4,
    "optimizer.steps": 8, "samples.steps": 2,
}  # fmt: skip


def test_the_largest_bucket_is_that_of_the_pictures(project: Project) -> None:
    """What the scan has counted is what each picture lands in, in other buckets, too."""
    for edits in (SMALL, {**SMALL, "data.resolution": 24}):
        ready = prepare(project, project.resolve(None, edits))
        known = grids(ready.config.data)
        sizes = {b.size for p in ready.scan.pictures for b in buckets_of_picture(p, known)}
        assert largest_size(ready) == max(sizes, key=lambda s: (s[0] * s[1], s))
        pictures, size = largest_bucket(ready)
        assert size == largest_size(ready) and pictures
        assert all(size in {b.size for b in buckets_of_picture(p, known)} for p in pictures)


def test_a_dry_run_measures_and_the_plan_then_knows(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = prepare(project, project.resolve(None, SMALL))
    heard: list[str] = []
    found = dry_run(project, ready, lambda what, done, total: heard.append(what))
    assert found.fits and found.bucket == largest_bucket(ready)[1]
    assert set(found.phases) == {"load", "cache", "train", "sample"}
    assert 0 < found.measurement.peak_gib < 1 and found.measurement.step_s > 0
    assert found.measurement.sample_s > 0 and found.measurement.save_s > 0
    assert "training" in heard
    assert not list((project.root / "runs").glob("*")), "a dry run is no run"
    assert not list(project.cache_dir.glob("dryrun-*"))
    seen = foresee(project, ready, ask=False)
    assert seen is not None and seen.basis == "measured" and seen.step_s == found.measurement.step_s
    sets = [x for k, v in SMALL.items() for x in ("--set", f"{k}={v}")]
    assert main(["plan", str(project.root), *sets, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["foreseen"]["basis"] == "measured" and document["foreseen"]["time_s"] > 0


def test_a_dry_run_that_is_stopped_leaves_nothing(project: Project) -> None:
    ready = prepare(project, project.resolve(None, SMALL))
    child = Child()
    timer = threading.Timer(1.0, child.stop)
    timer.start()
    with pytest.raises(JobError, match="stopped"):
        dry_run(project, ready, child=child)
    assert not list(project.cache_dir.glob("dryrun-*"))
    time.sleep(0.1)
    assert not [p for p in psutil.Process().children(recursive=True) if "dryrun" in " ".join(p.cmdline())]


def test_a_killed_dry_run_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepare(project, project.resolve(None, SMALL))
    monkeypatch.setattr(Child, "each", lambda self, command, log, on_line: -signal.SIGKILL)
    with pytest.raises(JobError, match="killed"):
        dry_run(project, ready)


def test_fake_tensors_count_what_a_step_holds(tiny_sd15: Path, tmp_path: Path) -> None:
    from loratui.train.imagined import imagine

    info = RunInfo(base_path=str(tiny_sd15), family="sd15", trigger="sks", project=str(tmp_path))
    one = imagine(info, kit.tiny_config(data__batch_size=1), (16, 16))
    four = imagine(info, kit.tiny_config(data__batch_size=4), (16, 16))
    large = imagine(info, kit.tiny_config(data__batch_size=1), (32, 32))
    kept = imagine(info, kit.tiny_config(data__batch_size=4, memory__gradient_checkpointing=True), (16, 16))
    assert one.train_gib < kept.train_gib < four.train_gib
    # activations grow with batch and area: the same for four pictures as for one of four times the area
    assert four.train_gib == pytest.approx(large.train_gib, rel=0.1)
    assert imagine(info, kit.tiny_config(network__rank=64), (16, 16)).lora_gib > 8 * one.lora_gib
