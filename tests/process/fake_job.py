"""A job for tests: steps, checkpoints, controls and bad ends over the real protocol."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from loratui.errors import SaveError
from loratui.jobs._main import Context, run_job

if os.environ.get("FAKE_MODE") == "import-error":
    import a_package_that_is_not_there  # noqa: F401


def save(ctx: Context, step: int) -> None:
    folder = ctx.run.checkpoints_dir / f"step-{step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(str(step))
    (folder / "manifest.json").write_text(json.dumps({"files": {"weights": ""}}))
    ctx.journal.write("checkpoint", step=step, path=f"checkpoints/{folder.name}", seconds=0.01, bytes=3)


def misbehave(mode: str, step: int) -> None:
    if step != 2:
        return
    if mode == "exception":
        raise ValueError("bad \x1b]52;c;YWJj\x07 value")
    if mode == "save-error":
        raise SaveError("The checkpoint could not be written.", "Free some space.")
    if mode == "enospc":
        raise OSError(28, "No space left on device", "checkpoints/step-2")
    if mode == "exit":
        sys.exit(3)
    if mode == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)


def main(ctx: Context) -> None:
    mode = os.environ.get("FAKE_MODE", "")
    steps = int(os.environ.get("FAKE_STEPS", "5"))
    pause_s = float(os.environ.get("FAKE_STEP_S", "0.01"))
    print(f"from step {ctx.from_step} \x1b[31mred\x1b[0m \x9b2J")
    ctx.set_state("running")
    for step in range(ctx.from_step + 1, steps + 1):
        time.sleep(pause_s)
        misbehave(mode, step)
        numbers: dict[str, Any] = {"loss": 1 / step, "lr": {"unet": 1e-4}, "step_s": pause_s, "images": 1}
        ctx.journal.write("step", step=step, epoch=0, **numbers)
        for request in ctx.controls():
            if request.kind == "stop":
                ctx.stop_requested = "A stop was requested."
            elif request.kind == "save":
                save(ctx, step)
            ctx.ack(request)
        if step % 5 == 0 or ctx.stop_requested:
            save(ctx, step)
        if ctx.stop_requested:
            ctx.set_state("stopping", ctx.stop_requested)
            if mode == "slow-stop":
                time.sleep(1.0)
            Path("stopped-cleanly").write_text(str(step))
            return


if __name__ == "__main__":
    run_job(main)
