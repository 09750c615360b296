"""What a failing disk, flipped bits and foreign files do to checkpoints: nothing that is not said."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.errors import RunError, SaveError
from loratui.runs import control
from loratui.train import checkpoint
from loratui.train.checkpoint import LORA, MANIFEST, OPTIMIZER, STATE, Checkpoints, Snapshot, load


def snapshot(step: int) -> Snapshot:
    torch.manual_seed(step)
    weight = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    weight.sum().backward()
    optimizer.step()
    return Snapshot(
        step, {"m.lora_down.weight": weight.detach()}, optimizer.state_dict(), {}, {"prompts": ["x"]}
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 3)
    made = snapshot(7)
    made.optimizer["param_groups"][0]["lr"] = 0.1 / 3
    saved = store.save(made)
    assert saved.path.name == "step-000007" and saved.bytes > 0
    back = load(saved.path)
    assert torch.equal(back.lora["m.lora_down.weight"], made.lora["m.lora_down.weight"])
    assert back.step == 7 and back.facts == {"prompts": ["x"]}
    for name, value in made.optimizer["state"][0].items():
        assert torch.equal(back.optimizer["state"][0][name], value)
    assert back.optimizer["param_groups"] == made.optimizer["param_groups"]


def test_no_pickle_and_nothing_else_in_a_checkpoint(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, 3).save(snapshot(1)).path
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    assert names == sorted([LORA, OPTIMIZER, STATE, MANIFEST])


def test_pruning_keeps_the_newest_and_at_least_two(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 1)
    for step in (10, 20, 30, 40):
        store.save(snapshot(step))
        store.prune()
    assert [c.step for c in store.all()] == [40, 30]
    (tmp_path / ".saving-step-000050-x").mkdir()
    store.prune()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000030", "step-000040"]


class FailingDisk:
    """Lets `good` calls of write, fsync, rename, mkdir and replace through, then raises once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, good: int, code: int) -> None:
        self.left, self.code, self.failed = good, code, False
        real_fsync, real_rename, real_mkdir = os.fsync, Path.rename, Path.mkdir
        real_open = Path.open

        def guard(function):
            def call(*args, **kwargs):
                self.count()
                return function(*args, **kwargs)

            return call

        disk = self

        def opened(path, mode="r", *args, **kwargs):
            file = real_open(path, mode, *args, **kwargs)
            if "w" in mode:
                write = file.write

                def torn(data):
                    try:
                        disk.count()
                    except OSError:
                        write(data[: len(data) // 2])
                        raise
                    return write(data)

                return _Proxy(file, torn)
            return file

        monkeypatch.setattr(checkpoint.os, "fsync", guard(real_fsync))
        monkeypatch.setattr(Path, "rename", guard(real_rename))
        monkeypatch.setattr(Path, "mkdir", guard(real_mkdir))
        monkeypatch.setattr(Path, "open", opened)

    def count(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.failed:
            self.failed = True
            raise OSError(self.code, os.strerror(self.code))


class _Proxy:
    def __init__(self, file, write) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_write_of_a_save_may_fail(tmp_path: Path, code: int) -> None:
    """Failing the Nth call for every N: the one before is kept, nothing half-made is left or believed."""
    n = 0
    while True:
        folder = tmp_path / str(n)
        store = Checkpoints(folder, 2)
        store.save(snapshot(10))
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, n, code)
            try:
                store.save(snapshot(20))
            except SaveError as error:
                assert error.advice
        if not disk.failed:
            break
        newest, bad = store.newest()
        assert not bad and newest is not None and newest.step in {10, 20}
        assert not list(folder.glob(".saving-*"))
        store.save(snapshot(20))  # with room again it goes on
        assert store.newest()[0].step == 20
        n += 1
    assert n >= 14


@pytest.mark.parametrize("name", [LORA, OPTIMIZER, STATE, MANIFEST])
def test_a_flipped_bit_falls_back_and_is_named(tmp_path: Path, name: str) -> None:
    store = Checkpoints(tmp_path, 3)
    store.save(snapshot(10))
    newest = store.save(snapshot(20)).path
    random.seed(name)
    data = bytearray((newest / name).read_bytes())
    place = random.randrange(len(data)) if name != MANIFEST else data.index(b'"sha256"') + 40
    data[place] ^= 1 << random.randrange(8)
    (newest / name).write_bytes(bytes(data))
    found, bad = store.newest()
    assert found is not None and found.step == 10
    assert [b.path for b in bad] == [newest] and bad[0].reason


@pytest.mark.parametrize("name", [LORA, OPTIMIZER, STATE, MANIFEST])
def test_a_missing_or_cut_file_falls_back(tmp_path: Path, name: str) -> None:
    for cut in (True, False):
        store = Checkpoints(tmp_path / str(cut), 3)
        store.save(snapshot(10))
        path = store.save(snapshot(20)).path / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if cut else path.unlink()
        found, bad = store.newest()
        assert found is not None and found.step == 10 and len(bad) == 1


def test_nothing_good_is_never_a_fresh_start(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, 3)
    assert store.newest() == (None, [])
    path = store.save(snapshot(10)).path
    (path / STATE).write_bytes(b"{}")
    with pytest.raises(RunError, match="None of the 1 checkpoints"):
        store.newest()


class Bomb:
    """Runs when it is unpickled."""

    fired: list[int] = []

    def __reduce__(self):
        return Bomb.fired.append, (1,)


def test_malicious_pickles_are_never_opened(tmp_path: Path) -> None:
    from loratui.errors import LoratuiError
    from loratui.families.detect import detect
    from loratui.families.loading import read_tensors
    from loratui.weights.verify import verify_file

    bombs = [pickle.dumps(Bomb(), protocol) for protocol in range(5)]
    attempts = 0
    for data in bombs:
        for suffix in (".safetensors", ".ckpt"):
            path = tmp_path / f"m{suffix}"
            path.write_bytes(data)
            assert not detect(path).ok
            for opener in (verify_file, lambda p: read_tensors([p])):
                with pytest.raises(LoratuiError):
                    opener(path)
                attempts += 1
        store = Checkpoints(tmp_path / "c", 3)
        target = store.save(snapshot(1)).path
        for name in (LORA, OPTIMIZER, STATE):
            (target / name).write_bytes(data)
            with pytest.raises(RunError):
                load(target)
            attempts += 1
    assert attempts >= 20 and Bomb.fired == []


def test_a_damaged_newest_checkpoint_costs_only_its_steps(tmp_path: Path, tiny_sd15: Path) -> None:
    config = kit.tiny_config(saving__every=2)
    whole = kit.make_run(tmp_path / "p", tiny_sd15, config, "whole")
    kit.run_job_here(whole)
    run = kit.make_run(tmp_path / "p", tiny_sd15, config, "damaged")

    def stop_at_6(context) -> None:
        write = context.journal.write

        def spy(name, **fields):
            if name == "step" and fields["step"] == 6:
                context.stop_requested = "test"
            return write(name, **fields)

        context.journal.write = spy

    kit.run_job_here(run, tweak=stop_at_6)
    newest = run.checkpoints_dir / "step-000006" / LORA
    data = bytearray(newest.read_bytes())
    data[-5] ^= 4
    newest.write_bytes(bytes(data))
    events = kit.run_job_here(run)
    warning = next(e for e in events if e["kind"] == "warning")
    assert warning["code"] == "bad-checkpoint" and "step-000006" in warning["message"]
    second = [e for e in events if e["a"] == 2 and e["kind"] == "step"]
    assert second[0]["step"] == 5
    last = Path("checkpoints/step-000008") / LORA
    assert kit.tensor_hash(run.path / last) == kit.tensor_hash(whole.path / last)


def test_a_full_disk_pauses_the_run_and_resume_goes_on(tmp_path: Path, tiny_sd15: Path, monkeypatch) -> None:
    run = kit.make_run(tmp_path / "p", tiny_sd15, kit.tiny_config(saving__every=2), "full")
    save = Checkpoints.save
    failures = []

    def full(self, made):
        if made.step == 4 and not failures:
            failures.append(1)
            raise SaveError("The disk is full.", "Free some space.")
        return save(self, made)

    monkeypatch.setattr(Checkpoints, "save", full)

    def go_on(context) -> None:
        write = context.journal.write

        def spy(name, **fields):
            event = write(name, **fields)
            if name == "state" and fields["state"] == "paused":
                assert fields["reason"] == "The disk is full." and fields["advice"]
                control.request(run, "resume")
                context._looked_at = 0.0
            return event

        context.journal.write = spy

    events = kit.run_job_here(run, tweak=go_on)
    states = [e["state"] for e in events if e["kind"] == "state"]
    assert states == ["starting", "caching", "running", "paused", "running", "finished"]
    assert [e["step"] for e in events if e["kind"] == "checkpoint"] == [2, 4, 6, 8]
    assert len([e for e in events if e["kind"] == "step"]) == 8


def test_a_full_disk_and_stop_ends_with_the_reason(tmp_path: Path, tiny_sd15: Path, monkeypatch) -> None:
    run = kit.make_run(tmp_path / "p", tiny_sd15, kit.tiny_config(saving__every=4), "full")

    def full(self, made):
        raise SaveError("The disk is full.", "Free some space.")

    monkeypatch.setattr(Checkpoints, "save", full)

    def stop(context) -> None:
        write = context.journal.write

        def spy(name, **fields):
            event = write(name, **fields)
            if name == "state" and fields["state"] == "paused":
                context.stop_requested = "SIGTERM was received."
            return event

        context.journal.write = spy

    with pytest.raises(SaveError, match="full"):
        kit.run_job_here(run, tweak=stop)
    assert json.dumps(kit.events(run))
