"""Runs afterwards: what differs, what they take, what may go and what must stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_kit import RunWriter

from loratui.cli import main
from loratui.errors import LockedError, RunError
from loratui.project import past
from loratui.runs.directory import RunDir
from loratui.runs.lock import RunLock


def ended(root: Path, stem: str, state: str, steps: tuple[int, ...]) -> RunDir:
    writer = RunWriter(root, stem)
    writer.write("state", state=state)
    for step in steps:
        folder = writer.run.checkpoints_dir / f"step-{step:06d}" / "state"
        folder.mkdir(parents=True)
        (folder / "optimizer.safetensors").write_bytes(b"x" * step)
        (folder.parent / "lora.safetensors").write_bytes(b"y")
    return writer.run


def test_only_states_that_no_resume_needs_are_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loratui.toml").write_text('[project]\nname = "x"\nbase = "demo"\n')
    done = ended(tmp_path, "done", "finished", (5, 10))
    stopped = ended(tmp_path, "stopped", "stopped", (1, 2, 10, 100))
    alive = ended(tmp_path, "alive", "running", (7,))
    found = past.prunable([done, stopped, alive])
    assert [(i.run.id, i.step, i.bytes) for i in found] == [
        (done.id, 5, 5), (done.id, 10, 10), (stopped.id, 1, 1), (stopped.id, 2, 2)
    ]  # fmt: skip
    assert main(["runs", str(tmp_path), "--prune", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == 18 and told["freed"] == 0 and found[0].path.is_dir()
    with RunLock(stopped), pytest.raises(LockedError):
        past.prune(found[2:])
    assert found[2].path.is_dir()
    assert main(["runs", str(tmp_path), "--prune", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == 18
    assert not any(item.path.exists() for item in found)
    assert (found[0].path.parent / "lora.safetensors").is_file()
    assert sorted(p.parent.name for p in stopped.checkpoints_dir.glob("*/state")) == [
        "step-000010",
        "step-000100",
    ]
    assert past.prunable([done, stopped, alive]) == []
    assert main(["runs", str(tmp_path), "--dry-run"]) == 2


def test_what_differs_between_two_runs(tmp_path: Path) -> None:
    one, other = (RunDir.create(tmp_path / "runs", name) for name in ("one", "other"))
    one.config_path.write_text('[run]\nid = "a"\nsteps = 5\n[optimizer]\nlr = 1e-4\nname = "adamw"\n')
    other.config_path.write_text(
        '[run]\nid = "b"\nsteps = 5\n[optimizer]\nlr = 2e-4\nname = "adamw"\n[data]\nflip = true\n'
    )
    assert past.config_differences(one, other) == [("optimizer.lr", 1e-4, 2e-4), ("data.flip", None, True)]
    rows = [{"path": "/a", "hash": "1", "caption": "x", "bucket": [64, 64]}, {"path": "/b", "hash": "2"}]
    one.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"path": "/a", "hash": "9", "caption": "y", "bucket": [64, 64]}, {"path": "/c", "hash": "2"}]
    other.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = past.dataset_differences(one, other)
    assert [(c.path, c.what, c.one, c.other) for c in changes] == [
        ("/a", "picture", "1", "9"), ("/a", "caption", "x", "y"), ("/b", "only in the first", "", ""),
        ("/c", "only in the second", "", ""),
    ]  # fmt: skip
    other.manifest_path.write_text("[1]\n")
    with pytest.raises(RunError, match="manifest"):
        past.dataset_differences(one, other)


def test_a_run_goes_to_the_trash_and_comes_back(tmp_path: Path) -> None:
    done, alive = ended(tmp_path, "done", "finished", (5,)), ended(tmp_path, "alive", "paused", ())
    sizes = past.disk_usage(done)
    assert sizes["checkpoints"] == 6 and sizes["rest"] > 0
    with pytest.raises(RunError, match="alive is"):
        past.put_away(alive)
    with RunLock(done), pytest.raises(LockedError):
        past.put_away(done)
    kept = past.put_away(done)
    assert not done.path.exists() and (kept / "checkpoints/step-000005/lora.safetensors").is_file()
    with pytest.raises(RunError, match="no run 'nothing'"):
        past.bring_back("nothing", tmp_path / "runs")
    assert past.bring_back(done.id, tmp_path / "runs") == done and done.exists()
    with pytest.raises(RunError, match="no run"):
        past.bring_back(done.id, tmp_path / "runs")
