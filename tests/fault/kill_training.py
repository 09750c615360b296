"""Kill a training with SIGKILL at random moments, resume it, and compare the bytes it ends in.

    python tests/fault/kill_training.py FOLDER --kills 50 --in-saves 15 --seed 1

Each kill hits a real job process of its own run. The processes are forked from one that has imported torch
and diffusers already, because a fresh interpreter would spend its whole life on that. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import train_kit as kit  # noqa: E402

from loratui.jobs import train as job  # noqa: E402
from loratui.jobs._main import run_job  # noqa: E402
from loratui.runs.directory import RunDir  # noqa: E402

LAST_STEP = 16


def warm_up() -> None:
    """Import what the job imports, in the parent, without starting a thread."""
    import diffusers.models.autoencoders.autoencoder_kl
    import diffusers.models.unets.unet_2d_condition
    import peft
    import transformers.models.clip.modeling_clip
    import transformers.models.clip.tokenization_clip

    import loratui.train.assemble
    import loratui.train.loop

    assert diffusers and peft and transformers and loratui


def start(run: RunDir) -> int:
    """Fork a job process; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    with contextlib.suppress(OSError):
        log = os.open(run.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
    code = 70
    try:
        run_job(job.main, [str(run.path)])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        os._exit(code)


def finish(pid: int) -> int:
    """Wait for a job; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def saving(run: RunDir) -> bool:
    """Whether a checkpoint is being written this moment."""
    return any(entry.name.startswith(".saving-") for entry in run.checkpoints_dir.iterdir())


def kill_at(pid: int, delay_s: float) -> bool:
    """Kill after a delay; False when the job had ended by itself before."""
    deadline = time.monotonic() + delay_s
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(min(0.002, max(0.0, deadline - time.monotonic())))
    os.kill(pid, signal.SIGKILL)
    return finish(pid) == -signal.SIGKILL


def kill_at_step(pid: int, run: RunDir, step: int, delay_s: float) -> bool:
    """Kill a moment after a step was written; False when the job had ended by itself before."""
    while not run.events_path.exists() or run.events_path.read_bytes().count(b'"kind":"step"') < step:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    return kill_at(pid, delay_s)


def kill_in_save(pid: int, run: RunDir, nth: int, delay_s: float) -> bool:
    """Kill within the nth save; False when the save was over, or the job had ended."""
    seen, inside = 0, False
    while True:
        now = saving(run)
        if now and not inside:
            seen += 1
            if seen == nth:
                time.sleep(delay_s)
                still = saving(run)
                os.kill(pid, signal.SIGKILL)
                return finish(pid) == -signal.SIGKILL and still and saving(run)
        inside = now
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False


def result(run: RunDir) -> str:
    """Hash of the tensors that the run ended in."""
    return kit.tensor_hash(run.checkpoints_dir / f"step-{LAST_STEP:06d}" / "lora.safetensors")


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--in-saves", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warm_up()
    random.seed(args.seed)
    base = kit.tiny_base(args.folder / "base")
    config = kit.tiny_config(
        optimizer__steps=LAST_STEP, saving__every=2, saving__keep=2, network__dropout=0.1, data__flip=True
    )
    project = args.folder / "project"

    def new_run(name: str) -> RunDir:
        return kit.make_run(project, base, config, name)

    for name in ("warm", "whole"):  # the first fills the caches, so that the second is as long as the others
        whole = new_run(name)
        begun = time.monotonic()
        assert finish(start(whole)) == 0, whole.log_path.read_text()
        length_s = time.monotonic() - begun
    expected = result(whole)
    killed = {"anywhere": 0, "in save": 0}
    different: list[str] = []
    failed: list[str] = []
    steps: list[int] = []
    tries = 0
    done: list[int] = []
    while sum(killed.values()) < args.kills:
        tries += 1
        assert tries < 10 * args.kills + 40, "the kills do not hit"
        where = "in save" if killed["in save"] < args.in_saves else "anywhere"
        run = new_run(f"k{tries}")
        pid = start(run)
        if where == "in save":
            hit = kill_in_save(pid, run, random.randint(1, LAST_STEP // 2), random.uniform(0, 0.03))
        elif random.random() < 0.25:
            hit = kill_at(pid, random.uniform(0.0, length_s))
        else:  # most of a short run's life is its start: the steps get their own share
            hit = kill_at_step(pid, run, random.randint(1, LAST_STEP - 1), random.uniform(0.0, 0.1))
        if not hit:
            continue
        killed[where] += 1
        done.append(max((e["step"] for e in kit.events(run, "step")), default=0))
        for attempt in range(3):
            code = finish(start(run))
            if code == 0:
                break
            failed.append(f"{run.id} attempt {attempt + 2}: exit {code}")
        steps.append(max((e["from_step"] for e in kit.events(run, "opened")), default=0))
        if not (run.checkpoints_dir / f"step-{LAST_STEP:06d}").is_dir() or result(run) != expected:
            different.append(run.id)
    print(
        json.dumps(
            {
                "killed": killed,
                "resumed_from": steps,
                "different": different,
                "failed": failed,
                "tries": tries,
            }
        )
    )


if __name__ == "__main__":
    main()
