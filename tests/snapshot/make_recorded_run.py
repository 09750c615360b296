"""Write tests/data/recorded_run: a run as a job leaves it, small and always the same.

    python tests/snapshot/make_recorded_run.py

The curve, the pictures and the times are invented; the events are of the kinds and in the order
a training on a CPU writes them.
"""

from __future__ import annotations

import math
import random
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from loratui.config.run import RunInfo
from loratui.config.schema import (
    DataConfig,
    OptimizerConfig,
    RunConfig,
    SamplesConfig,
    SavingConfig,
)
from loratui.config.write import write_run
from loratui.runs.events import encode_line

TARGET = Path(__file__).parent.parent / "data" / "recorded_run" / "20260102-140000-sks-robot"
START = 1_767_362_400.0
STEPS = 400
EVERY = 100
PROMPTS = ("sks robot on a red background", "sks robot on the moon", "two sks robots", "a house at night")
RATES = {"unet": 1e-3}


class Writer:
    """Collects lines with a clock of its own."""

    def __init__(self) -> None:
        self.now = START
        self.lines: list[bytes] = []

    def write(self, kind: str, after: float = 0.0, /, **fields: Any) -> None:
        """One event, `after` seconds later than the last."""
        self.now += after
        event = {"n": len(self.lines) + 1, "t": round(self.now, 3), "a": 1, "kind": kind, **fields}
        self.lines.append(encode_line(event))


def picture(step: int, index: int) -> Image.Image:
    """A mascot that grows clearer with the steps."""
    shade = random.Random(index)
    back = [(176, 48, 52), (28, 32, 58), (70, 130, 92), (24, 26, 40)][index]
    image = Image.new("RGB", (64, 64), back)
    draw = ImageDraw.Draw(image)
    draw.ellipse((6, 46, 58, 70), fill=tuple(v // 2 for v in back))
    if index < 3 and step:
        body = (232, 186, 60) if step >= 200 else (190, 150, 80)
        draw.rounded_rectangle((20, 14, 44, 34), 5, fill=body)
        draw.rectangle((24, 36, 40, 52), fill=(150, 156, 168))
        draw.line((32, 6, 32, 14), fill=(220, 220, 220), width=2)
        draw.ellipse((29, 3, 35, 9), fill=(220, 60, 60))
        for x in (27, 37):
            draw.ellipse((x - 3, 20, x + 3, 26), fill=(20, 22, 30))
    else:
        draw.polygon([(14, 36), (32, 18), (50, 36)], fill=(160, 70, 50))
        draw.rectangle((18, 36, 46, 54), fill=(210, 190, 150))
        draw.rectangle((28, 42, 36, 54), fill=(90, 60, 40))
    noise = max(0, 4 - step // 100) * 14
    pixels = image.load()
    assert pixels is not None
    for y in range(64):
        for x in range(64):
            value = pixels[x, y]
            assert isinstance(value, tuple)
            pixels[x, y] = tuple(max(0, min(255, v + shade.randint(-noise, noise))) for v in value)
    return image


def samples(out: Writer, step: int) -> None:
    """Draw and tell of all prompts."""
    folder = TARGET / "samples" / f"step-{step:06d}"
    folder.mkdir(parents=True)
    for index, prompt in enumerate(PROMPTS):
        path = folder / f"{index:02d}.png"
        picture(step, index).quantize(48).save(path, optimize=True)
        out.write(
            "sample",
            1.1,
            step=step,
            index=index,
            prompt=prompt,
            seed=index + 1,
            path=path.relative_to(TARGET).as_posix(),
            seconds=1.1,
            width=64,
            height=64,
        )


def main() -> None:
    """Write the whole directory anew."""
    shutil.rmtree(TARGET.parent, ignore_errors=True)
    TARGET.mkdir(parents=True)
    dice, other = random.Random(7), random.Random(8)
    out = Writer()
    out.write(
        "opened",
        run_id=TARGET.name,
        job="train",
        name="sks-robot",
        base="demo",
        preset="demo",
        family="sd15",
        attempt=1,
        from_step=0,
        steps=STEPS,
        epochs=100,
        prompts=list(PROMPTS),
        trigger="sks robot",
        version="0.1.0",
    )
    out.write("state", state="starting")
    out.write(
        "process",
        0.4,
        host="workshop",
        pid=4242,
        process_start=1.0,
        boot_id="recorded",
        device="cpu, 2 threads",
    )
    out.write("progress", 2.0, what="loading base", done=1, total=1)
    out.write("state", 0.3, state="caching")
    for done in range(0, 17, 4):
        out.write("progress", 0.4, what="caching latents", done=done, total=16)
    out.write("state", 0.2, state="running")
    samples(out, 0)
    for step in range(1, STEPS + 1):
        mean = 0.045 + 0.19 * math.exp(-step / 55) + 0.04 * math.exp(-step / 260)
        loss = mean * math.exp(dice.gauss(-0.06, 0.33))
        took = 0.21 * math.exp(dice.gauss(0, 0.05))
        parts = {"data": 0.002, "compute": took * 0.93, "optimizer": took * 0.05, "io": took * 0.01}
        out.write(
            "step",
            took,
            step=step,
            epoch=(step - 1) // 4 + 1,
            loss=round(loss, 6),
            lr=RATES,
            grad_norm=round(0.4 * math.exp(dice.gauss(-step / 900, 0.2)), 4),
            step_s=round(took, 4),
            images=4,
            times={name: round(value, 4) for name, value in parts.items()},
        )
        if step % 50 == 0:
            shares = (0.22, 0.55, 1.1, 2.1)
            noisy = [round(mean * share * math.exp(other.gauss(0, 0.06)), 5) for share in shares]
            out.write("quarters", step=step, loss=noisy, count=[50, 50, 50, 50])
        if step % 10 == 0:
            rss = 1.62 + 0.2 * (1 - math.exp(-step / 80))
            out.write("memory", device="cpu", rss_gib=round(rss, 3), peak_gib=round(rss + 0.21, 3))
        if step % EVERY == 0:
            path = f"checkpoints/step-{step:06d}"
            out.write("checkpoint", 0.3, step=step, path=path, seconds=0.3, bytes=3_412_992)
            samples(out, step)
        if step % 80 == 0:
            out.write("validation", 0.4, step=step, loss=round(mean * 1.08, 5))
    out.write("exported", 0.3, path="export/sks-robot.safetensors", format="kohya", bytes=1_712_400)
    matched = {name: [192, 192] for name in ("diffusers", "ComfyUI", "A1111")}
    out.write("verified", 0.2, path="export/sks-robot.safetensors", matched=matched, problems=[])
    out.write("state", 0.1, state="finished")
    (TARGET / "events.jsonl").write_bytes(b"".join(out.lines))
    config = RunConfig(
        data=DataConfig(resolution=64, batch_size=4, bucket_step=16, min_bucket=32, max_bucket=128),
        optimizer=OptimizerConfig(steps=STEPS, lr=1e-3),
        samples=SamplesConfig(every=EVERY, prompts=PROMPTS),
        saving=SavingConfig(every=EVERY),
    )
    info = RunInfo(
        id=TARGET.name,
        name="sks-robot",
        project="/home/user/sks-robot",
        base_path="demo",
        family="sd15",
        preset="demo",
        trigger="sks robot",
        steps=STEPS,
        epochs=100,
        created="2026-01-02T14:00:00+00:00",
        version="0.1.0",
    )
    write_run(TARGET / "run.toml", info, config)


if __name__ == "__main__":
    main()
