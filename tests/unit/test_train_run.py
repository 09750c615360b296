"""The train job end to end in this process: events, resume, golden loss, requests, failing parts."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_kit as kit
from PIL import Image

from loratui.errors import ConfigError, NonFiniteError, RunError
from loratui.jobs import train as job
from loratui.runs import control

GOLDEN = Path(__file__).parent.parent / "data" / "golden_loss.json"


def losses(events: list[dict]) -> list[float]:
    return [e["loss"] for e in events if e["kind"] == "step"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One project for the module: its cache is filled once."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def finished(project: Path, tiny_sd15: Path):
    """A whole run of 20 steps with every random option on, and its events."""
    run = kit.make_run(project, tiny_sd15, settings(), "whole")
    return run, kit.run_job_here(run)


def settings(**changes):
    base = {
        "optimizer__steps": 20, "optimizer__accumulation": 2, "optimizer__schedule": "cosine",
        "optimizer__warmup_steps": 4, "data__flip": True, "data__caption_dropout": 0.2,
        "objective__min_snr_gamma": 5.0, "objective__noise_offset": 0.05, "network__dropout": 0.1,
        "saving__every": 1, "saving__keep": 100,
    }  # fmt: skip
    return kit.tiny_config(**(base | changes))


def test_events_of_a_whole_run(finished) -> None:
    run, events = finished
    kinds = [e["kind"] for e in events]
    steps = [e for e in events if e["kind"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 21))
    assert [e["state"] for e in events if e["kind"] == "state"] == [
        "starting",
        "caching",
        "running",
        "finished",
    ]
    assert kinds.index("exported") < kinds.index("verified") < len(kinds) - 1
    assert kinds[-1] == "state"
    for e in steps:
        assert set(e["times"]) == {"data", "compute", "optimizer", "io"}
        assert e["images"] in {2, 3, 4} and e["epoch"] >= 1 and e["lr"]["unet"] > 0
    matched = next(e for e in events if e["kind"] == "verified")["matched"]
    assert matched == {name: [32, 32] for name in ("diffusers", "comfyui", "a1111")}
    assert {e["what"] for e in events if e["kind"] == "progress"} >= {"loading base", "caching latents"}
    assert not list(run.checkpoints_dir.glob(".*"))


@pytest.mark.parametrize("step", range(20))
def test_resume_from_any_step_ends_in_the_same_bytes(
    finished, project: Path, tiny_sd15: Path, step: int
) -> None:
    whole, _ = finished
    run = kit.make_run(project, tiny_sd15, settings(), f"resumed-{step}")
    if step:
        shutil.copytree(whole.checkpoints_dir / f"step-{step:06d}", run.checkpoints_dir / f"step-{step:06d}")
    events = kit.run_job_here(run)
    assert next(e for e in events if e["kind"] == "opened")["from_step"] == step
    assert [e["step"] for e in events if e["kind"] == "step"] == list(range(step + 1, 21))
    last = "checkpoints/step-000020/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)
    exported = "export/{}.safetensors"
    assert kit.tensor_hash(run.path / exported.format(run.name)) == kit.tensor_hash(
        whole.path / exported.format("whole")
    )


def test_another_seed_ends_elsewhere(finished, project: Path, tiny_sd15: Path) -> None:
    """The comparison above can fail."""
    whole, _ = finished
    run = kit.make_run(project, tiny_sd15, settings(objective__seed=43), "other-seed")
    kit.run_job_here(run)
    last = "checkpoints/step-000020/lora.safetensors"
    assert kit.tensor_hash(run.path / last) != kit.tensor_hash(whole.path / last)


def test_golden_loss(finished) -> None:
    """Refactors leave the loss of 20 steps bit-identical on the torch it was taken with."""
    _, events = finished
    golden = json.loads(GOLDEN.read_text())
    got = losses(events)
    if torch.__version__.split("+")[0] == golden["torch"] and golden["machine"] == _machine():
        assert got == golden["loss"]
    else:
        assert got == pytest.approx(golden["loss"], rel=1e-5)


def _machine() -> str:
    return torch.backends.cpu.get_cpu_capability()


def test_a_changed_setting_is_refused_at_resume(finished, project: Path, tiny_sd15: Path) -> None:
    whole, _ = finished
    run = kit.make_run(project, tiny_sd15, settings(optimizer__lr=0.5), "changed")
    shutil.copytree(whole.checkpoints_dir / "step-000010", run.checkpoints_dir / "step-000010")
    with pytest.raises(RunError, match=r"optimizer\.lr was 0\.01 and is 0\.5"):
        kit.run_job_here(run)


def test_sample_settings_may_change_at_resume(finished, project: Path, tiny_sd15: Path) -> None:
    whole, _ = finished
    run = kit.make_run(project, tiny_sd15, settings(samples__guidance=1.5, saving__dtype="fp16"), "free")
    shutil.copytree(whole.checkpoints_dir / "step-000019", run.checkpoints_dir / "step-000019")
    events = kit.run_job_here(run)
    assert events[-1]["state"] == "finished"
    said = [e["message"] for e in events if e["kind"] == "warning" and e["code"] == "changed-setting"]
    assert said == [
        "Going on with another setting: samples.guidance was 3.0 and is 1.5.",
        "Going on with another setting: saving.dtype was fp32 and is fp16.",
    ]


def test_gradient_checkpointing_changes_nothing(project: Path, tiny_sd15: Path) -> None:
    plain = kit.make_run(project, tiny_sd15, kit.tiny_config(optimizer__steps=3), "plain")
    saving = kit.make_run(
        project, tiny_sd15, kit.tiny_config(optimizer__steps=3, memory__gradient_checkpointing=True), "saving"
    )
    assert losses(kit.run_job_here(plain)) == pytest.approx(losses(kit.run_job_here(saving)), rel=1e-5)


def test_sliced_attention_changes_nothing(project: Path, tiny_sd15: Path) -> None:
    from diffusers.models.attention_processor import SlicedAttnProcessor

    plain = kit.make_run(project, tiny_sd15, kit.tiny_config(optimizer__steps=3), "fused")
    config = kit.tiny_config(optimizer__steps=3, memory__attention="sliced")
    sliced = kit.make_run(project, tiny_sd15, config, "sliced")
    used = []
    with pytest.MonkeyPatch.context() as monkey:
        call = SlicedAttnProcessor.__call__
        monkey.setattr(SlicedAttnProcessor, "__call__", lambda *a, **k: used.append(1) or call(*a, **k))
        events = kit.run_job_here(sliced)
    assert used and losses(events) == pytest.approx(losses(kit.run_job_here(plain)), rel=1e-5)


def test_bf16_keeps_the_lora_in_fp32(project: Path, tiny_sd15: Path) -> None:
    from safetensors.torch import load_file

    for held in ("auto", "bf16"):
        config = kit.tiny_config(
            optimizer__steps=3, optimizer__lr=1e-6, memory__precision="bf16", memory__base_precision=held
        )
        run = kit.make_run(project, tiny_sd15, config, f"bf16-{held}")
        events = kit.run_job_here(run)
        assert all(0.1 < x < 10 for x in losses(events))
        tensors = load_file(run.checkpoints_dir / "step-000003" / "lora.safetensors")
        moved = [t for n, t in tensors.items() if n.endswith("lora_up.weight")]
        assert all(t.dtype == torch.float32 and t.abs().max() > 0 for t in moved)
        # Updates of 1e-6 survive: bf16 would have lost nearly all of them on A, whose values are near 0.1.
        down = next(t for n, t in tensors.items() if n.endswith("lora_down.weight"))
        assert not torch.equal(down, down.bfloat16().float())


def test_fp16_is_refused_on_the_cpu(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(memory__precision="fp16"), "fp16")
    with pytest.raises(ConfigError, match="CUDA") as caught:
        kit.run_job_here(run)
    assert "bf16" in caught.value.advice


def ask_at(context, step: int, kind: str, **args):
    """Drop a request when the journal gets the event of `step`."""
    write = context.journal.write

    def spy(name: str, **fields):
        event = write(name, **fields)
        if name == "step" and fields["step"] == step:
            control.request(context.run, kind, **args)
            context._looked_at = 0.0
        return event

    context.journal.write = spy


def test_stop_saves_and_resume_goes_on(finished, project: Path, tiny_sd15: Path) -> None:
    whole, _ = finished
    run = kit.make_run(project, tiny_sd15, settings(saving__every=100), "stopped")
    events = kit.run_job_here(run, tweak=lambda c: ask_at(c, 7, "stop"))
    assert events[-1]["state"] == "stopped"
    assert next(e for e in events if e["kind"] == "ack")["ok"]
    stopped_at = max(e["step"] for e in events if e["kind"] == "step")
    assert stopped_at in {7, 8}
    assert (run.checkpoints_dir / f"step-{stopped_at:06d}").is_dir()
    assert not list(run.export_dir.iterdir())
    assert kit.run_job_here(run)[-1]["state"] == "finished"
    last = "checkpoints/step-000020/lora.safetensors"
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)


def test_signal_flag_saves_and_stops(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=100), "signal")

    def raise_flag(context):
        write = context.journal.write

        def spy(name, **fields):
            if name == "step" and fields["step"] == 4:
                context.stop_requested = "SIGTERM was received."
            return write(name, **fields)

        context.journal.write = spy

    events = kit.run_job_here(run, tweak=raise_flag)
    assert events[-1]["state"] == "stopped"
    assert [e["step"] for e in events if e["kind"] == "checkpoint"] == [4]


@pytest.mark.parametrize("how", ["signal", "request"])
def test_a_stop_while_caching_is_heeded(tmp_path: Path, tiny_sd15: Path, how: str) -> None:
    run = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(), "early")

    def ask(context):
        write = context.journal.write

        def spy(name, **fields):
            if name == "progress" and fields["what"] == "caching latents":
                if how == "signal":
                    context.stop_requested = "SIGTERM was received."
                else:
                    control.request(run, "stop")
                    context._looked_at = 0.0
            return write(name, **fields)

        context.journal.write = spy

    events = kit.run_job_here(run, tweak=ask)
    assert events[-1]["state"] == "stopped" and not losses(events)
    assert kit.run_job_here(run)[-1]["state"] == "finished"


def test_the_demo_score_counts_before_and_after(tmp_path: Path, tiny_sd15: Path, monkeypatch) -> None:
    """The bare base is judged before, the adapter after; drawn in batches of one prompt."""
    import loratui.demo
    import loratui.demo.scorer

    monkeypatch.setattr(loratui.demo, "SCORE_SEEDS", (0, 1))
    monkeypatch.setattr(loratui.demo, "SAMPLING_STEPS", 1)
    monkeypatch.setattr(loratui.demo, "RESOLUTION_PX", 16)
    drawn = []

    def judge(pictures, backgrounds):
        drawn.append((pictures, backgrounds))
        return [len(drawn) > 3] * len(pictures)

    monkeypatch.setattr(loratui.demo.scorer, "score", judge)
    config = kit.tiny_config(optimizer__steps=4, optimizer__lr=0.2)
    run = kit.make_run(tmp_path, tiny_sd15, config, "scored", score="demo")
    events = kit.run_job_here(run)
    assert next(e for e in events if e["kind"] == "scored")["scores"] == {"before": 0.0, "after": 1.0}
    assert events[-1]["state"] == "finished" and events[-2]["kind"] == "scored"
    assert [b for _, b in drawn[:3]] == [[c, c] for c in loratui.demo.HELD_OUT_BACKGROUNDS]
    before, after = drawn[0][0], drawn[3][0]
    assert before[0].tobytes() != before[1].tobytes() and before[0].tobytes() != after[0].tobytes()


def test_save_sample_and_prompts_on_request(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=100, optimizer__steps=12), "asked")

    def asks(context):
        ask_at(context, 2, "save")
        ask_at(context, 4, "prompts", prompts=["{trigger} on a hill"])
        ask_at(context, 6, "sample")
        ask_at(context, 8, "prompts", prompts="not a list")

    events = kit.run_job_here(run, tweak=asks)
    acks = {e["request"]: e for e in events if e["kind"] == "ack"}
    assert acks["save"]["ok"] and acks["sample"]["ok"] and not acks["prompts"]["ok"]
    assert next(e for e in events if e["kind"] == "prompts")["prompts"] == ["sks thing on a hill"]
    sample = next(e for e in events if e["kind"] == "sample")
    assert sample["prompt"] == "sks thing on a hill" and (run.path / sample["path"]).is_file()
    assert min(e["step"] for e in events if e["kind"] == "checkpoint") in {2, 3}


def test_intervals_and_rate_change_during_the_run(project: Path, tiny_sd15: Path) -> None:
    config = kit.tiny_config(saving__every=100, optimizer__steps=12, samples__every=0)
    run = kit.make_run(project, tiny_sd15, config, "adjusted")

    def asks(context):
        ask_at(context, 2, "adjust", save_every=4, lr_factor=0.5)
        ask_at(context, 4, "sample", prompts=["{trigger} once"])
        ask_at(context, 6, "adjust", save_every=0)

    events = kit.run_job_here(run, tweak=asks)
    rates = {e["step"]: e["lr"] for e in events if e["kind"] == "step"}
    assert {e["step"] for e in events if e["kind"] == "checkpoint"} == {4, 8, 12}
    before, after = (next(iter(rates[step].values())) for step in (1, 12))
    assert after == pytest.approx(before / 2, rel=0.01)
    sample = next(e for e in events if e["kind"] == "sample")
    assert sample["prompt"] == "sks thing once" and sample["index"] >= 1  # beside the run's own
    answers = [(e["request"], e["ok"], e["reason"]) for e in events if e["kind"] == "ack"]
    assert [ok for _, ok, _ in answers] == [True, True, False] and "save_every" in answers[2][2]


def test_stop_after_the_epoch(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=100, optimizer__steps=50), "epoch")
    events = kit.run_job_here(run, tweak=lambda c: ask_at(c, 1, "stop", after="epoch"))
    steps = [e for e in events if e["kind"] == "step"]
    assert {e["epoch"] for e in steps} == {1} and 1 < len(steps) < 50
    states = [e["state"] for e in events if e["kind"] == "state"]
    assert states[-1] == "stopped" and events[-1]["state"] == "stopped"


def test_pause_holds_until_resume(project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(), "paused")

    def asks(context):
        ask_at(context, 3, "pause")
        write = context.journal.write

        def spy(name, **fields):
            event = write(name, **fields)
            if name == "state" and fields["state"] == "paused":
                control.request(run, "sample")
                control.request(run, "resume")
                context._looked_at = 0.0
            return event

        context.journal.write = spy

    events = kit.run_job_here(run, tweak=asks)
    states = [e["state"] for e in events if e["kind"] == "state"]
    assert states == ["starting", "caching", "running", "paused", "running", "finished"]
    acks = {e["request"]: e["ok"] for e in events if e["kind"] == "ack"}
    assert acks == {"pause": True, "sample": False, "resume": True}
    assert len(losses(events)) == 8


def test_a_stop_beside_a_pause_wins_at_once(project: Path, tiny_sd15: Path) -> None:
    """Asked for at one moment, before or while paused: saved as asked, stopped, nobody waits for a resume."""
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=100), "all-at-once")

    def ask(context):
        for kind in ("pause", "save", "stop"):
            ask_at(context, 3, kind)

    events = kit.run_job_here(run, tweak=ask)
    assert {e["request"]: e["ok"] for e in events if e["kind"] == "ack"} == {
        "pause": False, "save": True, "stop": True,
    }  # fmt: skip
    states = [e["state"] for e in events if e["kind"] == "state"]
    assert "paused" not in states and states[-1] == "stopped"
    assert [e["step"] for e in events if e["kind"] == "checkpoint"] == [
        max(e["step"] for e in events if e["kind"] == "step")
    ]


def test_a_stop_beside_a_resume_is_not_lost(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=100), "resume-stop")

    def asks(context):
        ask_at(context, 3, "pause")
        write = context.journal.write

        def spy(name: str, **fields):
            event = write(name, **fields)
            if name == "state" and fields["state"] == "paused":
                control.request(run, "resume")
                control.request(run, "stop")
                context._looked_at = 0.0
            return event

        context.journal.write = spy

    events = kit.run_job_here(run, tweak=asks)
    assert {e["request"]: e["ok"] for e in events if e["kind"] == "ack"} == {
        "pause": True, "resume": False, "stop": True,
    }  # fmt: skip
    assert events[-1]["state"] == "stopped" and max(e["step"] for e in events if e["kind"] == "step") < 8


def test_samples_are_pictures_with_their_settings(project: Path, tiny_sd15: Path) -> None:
    run = kit.make_run(
        project, tiny_sd15, kit.tiny_config(samples__every=4, samples__sampler="euler"), "samples"
    )
    events = kit.run_job_here(run)
    drawn = [e for e in events if e["kind"] == "sample"]
    assert [(e["step"], e["index"], e["seed"]) for e in drawn] == [
        (s, i, 1 + i) for s in (0, 4, 8) for i in (0, 1)
    ]
    with Image.open(run.path / drawn[2]["path"]) as image:
        assert image.size == (16, 16)
        own = json.loads(image.text["loratui"])
        lines = image.text["parameters"].splitlines()
    assert (
        own["prompt"] == "a red square"
        and own["seed"] == 1
        and own["step"] == 4
        and own["sampler"] == "euler"
    )
    assert lines[0] == "a red square" and "Seed: 1" in lines[-1] and "Sampler: Euler" in lines[-1]


def test_sampling_leaves_the_training_alone(project: Path, tiny_sd15: Path) -> None:
    quiet = kit.make_run(project, tiny_sd15, kit.tiny_config(network__dropout=0.2), "quiet")
    busy = kit.make_run(project, tiny_sd15, kit.tiny_config(network__dropout=0.2, samples__every=1), "busy")
    assert losses(kit.run_job_here(quiet)) == losses(kit.run_job_here(busy))


def test_a_failing_sample_is_an_event(
    project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratui.train import preview

    def broken(self, requests):
        raise torch.OutOfMemoryError("no room for the picture")

    monkeypatch.setattr(preview.Preview, "draw", broken)
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(samples__every=4), "failing")
    events = kit.run_job_here(run)
    failed = [e for e in events if e["kind"] == "sample_failed"]
    assert len(failed) == 6 and "no room" in failed[0]["error"]
    assert events[-1]["state"] == "finished"


def test_nan_stops_within_the_step(project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratui.train.objective import Objective

    run = kit.make_run(project, tiny_sd15, kit.tiny_config(saving__every=2), "nan")
    calls = []
    losses_of = Objective.losses

    def poisoned(self, *args):
        calls.append(1)
        value = losses_of(self, *args)
        return value * float("nan") if len(calls) == 6 else value

    monkeypatch.setattr(Objective, "losses", poisoned)
    with pytest.raises(NonFiniteError) as caught:
        kit.run_job_here(run)
    assert "step 6" in caught.value.message and "step 4 is kept" in caught.value.message
    assert "lr" in caught.value.advice
    assert len(losses(kit.events(run))) == 5
    assert kit.run_job_here(run)[-1]["state"] == "finished"


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int], when=lambda t: True) -> None:
    """NaN gradients at these steps, as long as `when` holds."""
    from loratui.train import loop

    clip = loop.clip

    def poisoned(t, parameters, max_norm):
        if t.step + 1 in steps and when(t):
            for p in parameters:
                p.grad.fill_(float("nan"))
        return clip(t, parameters, max_norm)

    monkeypatch.setattr(loop, "clip", poisoned)


def test_nan_steps_are_left_out(project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    poison(monkeypatch, {1, 3, 4, 8})
    config = kit.tiny_config(optimizer__on_nan="skip", saving__every=1, saving__keep=100)
    run = kit.make_run(project, tiny_sd15, config, "skips")
    events = kit.run_job_here(run)
    assert [e["step"] for e in events if e["kind"] == "step"] == [2, 5, 6, 7]
    left_out = [e["message"] for e in events if e["kind"] == "warning"]
    assert len(left_out) == 4 and "step 3" in left_out[1] and ".png" in left_out[1]
    assert events[-1]["state"] == "finished"
    for path in run.path.rglob("*.safetensors"):
        assert all(bool(torch.isfinite(x.float()).all()) for x in load_file(path).values()), path


def test_nan_for_ever_gives_up(project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, set(range(3, 100)))
    config = kit.tiny_config(optimizer__on_nan="skip", optimizer__steps=30, saving__every=2)
    run = kit.make_run(project, tiny_sd15, config, "gives-up")
    with pytest.raises(NonFiniteError, match="after 10 steps left out; step 2 is kept"):
        kit.run_job_here(run)


def test_nan_rolls_back_with_half_the_rate(
    project: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratui.runs.fold import fold
    from loratui.runs.journal import read_events

    poison(monkeypatch, {6}, when=lambda t: t.lr_scale > 0.3)
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(optimizer__on_nan="rollback"), "rolls")
    events = kit.run_job_here(run)
    assert [e["step"] for e in events if e["kind"] == "step"] == [1, 2, 3, 4, 5, 4, 5, 4, 5, 6, 7, 8]
    rates = [e["lr"]["unet"] for e in events if e["kind"] == "step"]
    assert rates == [1e-2] * 5 + [5e-3] * 2 + [2.5e-3] * 5
    assert [e["code"] for e in events if e["kind"] == "warning"] == ["rolled-back"] * 2
    assert events[-1]["state"] == "finished"
    state = fold(read_events(run.events_path).events)
    assert state.step == 8 and state.state == "finished"

    poison(monkeypatch, {6})
    run = kit.make_run(project, tiny_sd15, kit.tiny_config(optimizer__on_nan="rollback"), "rolls-3")
    with pytest.raises(NonFiniteError, match="after 3 roll-backs; step 3 is kept"):
        kit.run_job_here(run)


def test_an_edited_picture_is_noticed(project: Path, tiny_sd15: Path, tmp_path: Path) -> None:
    from loratui.errors import DatasetError

    run = kit.make_run(tmp_path, tiny_sd15, kit.tiny_config(), "edited")
    picture = next((tmp_path / "dataset").glob("*.png"))
    Image.new("RGB", (20, 20)).save(picture)
    with pytest.raises(DatasetError, match="changed"):
        kit.run_job_here(run)


def test_the_job_imports_nothing_heavy_at_load() -> None:
    import subprocess

    code = "import sys, loratui.jobs.train; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert job.main and replace
