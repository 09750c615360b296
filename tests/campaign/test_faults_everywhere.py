"""Failing disks, flipped bits and NaN in whole runs: at every write, in every file, at twenty steps."""

from __future__ import annotations

import errno
import json
import math
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train_kit as kit
from safetensors.torch import load_file

from loratui.errors import NonFiniteError, SaveError
from loratui.optim import OPTIMIZERS, optimizer_spec
from loratui.runs import control
from loratui.train import loop
from loratui.train.checkpoint import LORA, MANIFEST, OPTIMIZER, STATE, TRAINED, Checkpoints

sys.path.insert(0, str(Path(__file__).parent.parent / "fault"))

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
AVERAGED = {"saving__every": 2, "saving__keep": 2, "objective__ema_decay": 0.9}
LAST = f"checkpoints/step-000008/{LORA}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_sd15: Path) -> Any:
    """(folder, run) of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("faults")
    run = kit.make_run(folder, tiny_sd15, kit.tiny_config(**AVERAGED), "whole")
    kit.run_job_here(run)
    return folder, run


def one_key(run: Any, seen: list[int]) -> Any:
    """A tweak: when the run pauses, look what the newest checkpoint is, and ask it to go on."""

    def tweak(context: Any) -> None:
        write = context.journal.write

        def spy(name: str, **fields: Any) -> Any:
            event = write(name, **fields)
            if name == "state" and fields["state"] == "paused":
                assert fields["reason"] and fields["advice"]
                newest, bad = Checkpoints(run.checkpoints_dir, 2).newest()
                assert newest is not None and not bad
                seen.append(newest.step)
                control.request(run, "resume")
                context._looked_at = 0.0
            return event

        context.journal.write = spy

    return tweak


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_write_of_a_save_may_fail_in_a_run(whole: Any, tiny_sd15: Path, code: int) -> None:
    """The Nth call of write, fsync, mkdir and rename while step 6 is saved and step 2 pruned, for every N."""
    from test_train_faults import FailingDisk

    folder, reference = whole
    save, n, paused = loop.Training.save, 0, 0
    while True:
        run = kit.make_run(folder, tiny_sd15, kit.tiny_config(**AVERAGED), f"disk-{code}-{n}")
        disks: list[Any] = []

        def torn(t: Any, n: int = n, disks: list[Any] = disks) -> None:
            if t.step != 6 or disks:
                return save(t)
            with pytest.MonkeyPatch.context() as patch:
                disks.append(FailingDisk(patch, n, code))
                return save(t)

        seen: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.Training, "save", torn)
            events = kit.run_job_here(run, tweak=one_key(run, seen))
        assert events[-1]["state"] == "finished"
        assert kit.tensor_hash(run.path / LAST) == kit.tensor_hash(reference.path / LAST), n
        assert sorted(p.name for p in run.checkpoints_dir.iterdir()) == ["step-000006", "step-000008"]
        assert len(seen) <= 1 and all(step in {4, 6} for step in seen)
        paused += len(seen)
        shutil.rmtree(run.path)
        if not disks[0].failed:
            break
        n += 1
    print(f"{errno.errorcode[code]}: {n} writes failed, {paused} of them paused the run")
    assert n >= 20 and paused >= n - 3  # the journal's own writes wait and pause nothing


def stopped_at_6(whole: Any, base: Path, name: str) -> Any:
    """A run whose checkpoints are those of the whole one up to step 6."""
    folder, _ = whole
    run = kit.make_run(folder, base, kit.tiny_config(**AVERAGED | {"saving__keep": 9}), name)
    source = kit.make_run(folder, base, kit.tiny_config(**AVERAGED | {"saving__keep": 9}), f"{name}-source")
    kit.run_job_here(source)
    for step in (2, 4, 6):
        there = f"step-{step:06d}"
        shutil.copytree(source.checkpoints_dir / there, run.checkpoints_dir / there)
    shutil.rmtree(source.path)
    return run


@pytest.mark.parametrize("name", [LORA, OPTIMIZER, STATE, TRAINED, MANIFEST])
def test_a_flipped_bit_in_each_file_falls_back_and_is_said(whole: Any, tiny_sd15: Path, name: str) -> None:
    run = stopped_at_6(whole, tiny_sd15, f"bit-{name.replace('/', '-')}")
    path = run.checkpoints_dir / "step-000006" / name
    good, store, random_ = path.read_bytes(), Checkpoints(run.checkpoints_dir, 9), random.Random(name)
    places = [(n, b) for n in range(len(good)) for b in range(8)]
    if name != MANIFEST:
        places = random_.sample(places, 200)
    for place, bit in places:
        data = bytearray(good)
        data[place] ^= 1 << bit
        path.write_bytes(bytes(data))
        found, bad = store.newest()
        assert found is not None and found.step == 4 and [b.path.name for b in bad] == ["step-000006"], (
            place,
            bit,
        )
    events = kit.run_job_here(run)
    warning = next(e for e in events if e["kind"] == "warning")
    assert warning["code"] == "bad-checkpoint" and "step-000006" in warning["message"]
    assert [e["step"] for e in events if e["kind"] == "step"] == [5, 6, 7, 8]
    assert kit.tensor_hash(run.path / LAST) == kit.tensor_hash(whole[1].path / LAST)
    print(f"{name}: {len(places)} bits")


def poison(steps: set[int], what: str, value: float) -> Any:
    """Make the loss or the gradients of these steps no number."""
    patch = pytest.MonkeyPatch()
    step, clip = loop.optimizer_step, loop.clip

    def poisoned(t: Any, parameters: Any, max_norm: float) -> Any:
        if t.step + 1 in steps:
            parameters[t.step % len(parameters)].grad.view(-1)[0] = value
        return clip(t, parameters, max_norm)

    def poisoned_losses(self: Any, *args: Any) -> Any:
        found = losses(self, *args)
        return found * value if current[0] + 1 in steps else found

    losses, current = loop.Objective.losses, [0]
    if what == "gradient":
        patch.setattr(loop, "clip", poisoned)
    else:
        at = loop.Batches.at
        patch.setattr(loop.Batches, "at", lambda s, n, m: (current.__setitem__(0, n), at(s, n, m))[1])
        patch.setattr(loop.Objective, "losses", poisoned_losses)
    assert step is loop.optimizer_step
    return patch


def all_finite(folder: Path) -> int:
    """Tensors of all weight files below a folder, each looked at; figures of the journal's steps too."""
    count = 0
    for path in folder.rglob("*.safetensors"):
        for name, tensor in load_file(path).items():
            assert bool(tensor.float().isfinite().all()), (path, name)
            count += 1
    for path in folder.rglob("state.json"):
        text = path.read_text().replace('"growth_rate": Infinity', '"growth_rate": 0')  # a setting of Prodigy
        json.loads(text, parse_constant=pytest.fail)
    return count


@pytest.mark.parametrize("optimizer", [s.name for s in OPTIMIZERS if not s.cuda])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_twenty_nan_steps_leave_none_in_any_file(
    tmp_path: Path, tiny_sd15: Path, what: str, value: float, optimizer: str
) -> None:
    steps = set(random.Random(f"{what} {value}").sample(range(1, 41), 20))
    changes: dict[str, Any] = {"optimizer__name": optimizer, "optimizer__lr": 1e-2}
    spec = optimizer_spec(optimizer)
    changes |= {"optimizer__lr": 1.0} if spec is not None and spec.adaptive else {}
    changes |= {"optimizer__options": ("min_8bit_size=0",)} if "8bit" in optimizer else {}
    changes |= {"optimizer__other": "Adan"} if optimizer == "other" else {}
    changes |= {"objective__ema_decay": 0.9} if optimizer == "adamw" else {}
    config = kit.tiny_config(
        optimizer__steps=40, optimizer__on_nan="skip", saving__every=1, saving__keep=99, **changes
    )
    run = kit.make_run(tmp_path, tiny_sd15, config, "nan")
    patch = poison(steps, what, value)
    try:
        events = kit.run_job_here(run)
    finally:
        patch.undo()
    assert events[-1]["state"] == "finished"
    assert [e["step"] for e in events if e["kind"] == "step"] == sorted(set(range(1, 41)) - steps)
    assert len([e for e in events if e["kind"] == "warning" and e["code"] == "skipped-step"]) == 20
    assert all_finite(run.path) > 1000


def test_each_of_twenty_steps_stops_with_the_last_good_checkpoint(tmp_path: Path, tiny_sd15: Path) -> None:
    for step in range(1, 21):
        config = kit.tiny_config(optimizer__steps=22, saving__every=3)
        run = kit.make_run(tmp_path, tiny_sd15, config, f"stop-{step}")
        patch = poison({step}, "loss" if step % 2 else "gradient", math.nan)
        try:
            with pytest.raises(NonFiniteError, match=f"step {step} ") as caught:
                kit.run_job_here(run)
        finally:
            patch.undo()
        kept = (step - 1) // 3 * 3
        assert ("nothing was saved" if not kept else f"step {kept} is kept") in caught.value.message
        assert all_finite(run.path) > 0 or not kept
        assert torch.is_tensor(next(iter(Checkpoints(run.checkpoints_dir, 3).newest()[0].lora.values()))
                               ) if kept else True  # fmt: skip
        shutil.rmtree(run.path)


def test_pruning_that_fails_is_a_failed_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2, 3):
        (tmp_path / f"step-{step:06d}").mkdir()

    def failing(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(SaveError, match="failed"):
        Checkpoints(tmp_path, 2).prune()
