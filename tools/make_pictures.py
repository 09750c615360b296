"""Make what the README shows: the app's picture, the before/after sheet, the table of presets.

python tools/make_pictures.py table            only the table (no torch)
python tools/make_pictures.py app RUN          docs/monitor.png, from a finished demo run played again
python tools/make_pictures.py robot RUN        docs/robot.png, from a finished demo run
python tools/make_pictures.py                  all of it, from a demo trained now (minutes)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
README = ROOT / "README.md"
DOCS = ROOT / "docs"


def preset_table() -> str:
    """The shipped presets as a Markdown table, ending in a newline."""
    from loratui.config.presets import load_preset

    lines = [
        "| preset | for | base | card | network | rank/alpha | optimizer | rate | length |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    presets = [load_preset(path.stem) for path in (ROOT / "presets").glob("*.toml")]
    for preset in sorted(presets, key=lambda p: (p.name != "demo", p.family, p.name)):
        value = preset.values
        steps, epochs = value.get("optimizer.steps", 0), value.get("optimizer.epochs", 10)
        length = f"{steps:,} steps" if steps else f"{epochs} epochs"
        rank, alpha = value.get("network.rank", 16), value.get("network.alpha", 16.0)
        base = f"{preset.family}, {value.get('data.resolution', 512)} px"
        card = f"{preset.memory_gib:g} GB" if preset.memory_gib else "any"
        network, size = value.get("network.kind", "lora"), f"{rank}/{alpha:g}"
        if tokens := value.get("network.tokens"):
            alone = value.get("network.tokens_only")
            network, size = (f"{tokens} tokens", "-") if alone else (f"{network}, {tokens} tokens", size)
        cells = (
            f"`{preset.name}`", preset.title, base, card, network, size,
            value.get("optimizer.name", "adamw"), f"{value.get('optimizer.lr', 1e-4):g}", length,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def network_table() -> str:
    """Which program loads which network type, as a Markdown table, ending in a newline."""
    from loratui.weights.networks import NETWORKS

    lines = [
        "| network | what it is | diffusers | ComfyUI | A1111, Forge | PEFT |",
        "|---|---|---|---|---|---|",
    ]
    for row in NETWORKS:
        how = {name: "loads" if name in row.loads else "no" for name in ("diffusers", "comfyui", "a1111")}
        if row.name == "dora":
            how |= {"diffusers": "after `export --format peft`", "a1111": "misreads it"}
        peft = "loads" if row.format == "peft" else "after `export --format peft`"
        if row.name in {"loha", "lokr"}:
            peft = "no"
        cells = (f"`{row.name}`", row.about, how["diffusers"], how["comfyui"], how["a1111"], peft)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_table() -> None:
    """Put the tables between their marks in the README."""
    text = README.read_text("utf-8")
    for name, table in (("presets", preset_table()), ("networks", network_table())):
        marks = rf"(<!-- table:{name} -->\n).*?(<!-- /table:{name} -->)"
        text = re.sub(marks, lambda m, table=table: m[1] + table + m[2], text, flags=re.S)
    README.write_text(text, "utf-8")


def train_demo(folder: Path) -> Path:
    """Train the demo in a folder; its run directory."""
    done = subprocess.run(
        [sys.executable, "-m", "loratui", "demo", str(folder / "demo"), "--headless", "--json"],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return Path(json.loads(done.stdout)["run"])


def shoot(run: Path) -> None:
    """The monitor at three fifths of a run, as PNG, drawn cell by cell."""
    DOCS.mkdir(exist_ok=True)
    picture = ROOT / "tests" / "snapshot" / "picture.py"
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "my-robot"
        project.mkdir()
        subprocess.run(
            [
                sys.executable,
                str(picture),
                str(DOCS / "monitor.png"),
                "120x40",
                str(project),
                f"replay={run}",
                "replay_share=0.62",
                "wait:4",
            ],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def robot(run: Path, columns: int = 6, scale: int = 2) -> None:
    """Base (left) and LoRA (right) on backgrounds the pictures never had, same prompts and seeds."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from PIL import Image

    from loratui import demo

    run_toml = tomllib.loads((run / "run.toml").read_text("utf-8"))
    samples = run_toml.get("samples", {})
    lora = next((run / "export").glob("*.safetensors"))
    pipe = StableDiffusionPipeline.from_pretrained(
        demo.base_path(), torch_dtype=torch.float32, safety_checker=None
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    size, gap = run_toml["data"]["resolution"], 4
    prompts = demo.sample_prompts()

    def rows() -> list[list[Image.Image]]:
        sheet = []
        for n, prompt in enumerate(prompts):
            seeds = [torch.Generator().manual_seed(100 * n + k) for k in range(columns)]
            sheet.append(
                pipe(
                    [prompt] * columns, generator=seeds, width=size, height=size,
                    num_inference_steps=samples.get("steps", 20), guidance_scale=samples.get("guidance", 5.0),
                ).images
            )  # fmt: skip
        return sheet

    before = rows()
    pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    after = rows()
    cell = size * scale + gap
    sheet = Image.new("RGB", (cell * columns * 2 + 6 * gap, cell * len(prompts) + gap), "white")
    for block, pictures in enumerate((before, after)):
        for y, row in enumerate(pictures):
            for x, picture in enumerate(row):
                left = gap + block * (cell * columns + 4 * gap) + x * cell
                sheet.paste(
                    picture.resize((size * scale, size * scale), Image.Resampling.LANCZOS),
                    (left, gap + y * cell),
                )
    DOCS.mkdir(exist_ok=True)
    sheet.save(DOCS / "robot.png", optimize=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["table", "app", "robot"])
    parser.add_argument("run", nargs="?", type=Path)
    args = parser.parse_args()
    if args.what in ("app", "robot") and args.run is None:
        parser.error(f"{args.what} needs the directory of a finished demo run")
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or (train_demo(Path(folder)) if args.what is None else Path())
        if args.what in (None, "table"):
            write_table()
        if args.what in (None, "app"):
            shoot(run)
        if args.what in (None, "robot"):
            robot(run)


if __name__ == "__main__":
    main()
