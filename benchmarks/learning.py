"""What each network type learns on the demo, as a Markdown table.

    python benchmarks/learning.py [--only dora,loha] [--steps 600] [--out table.md]

Trains the demo's sixteen pictures on the bundled base with the demo preset and one change each, and prints
the demo score: the share of 48 pictures in which an independent judge finds the mascot on a background it was
never shown on, with the bare base and with what was trained. About three minutes a row on two CPU cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

ROWS: dict[str, dict[str, object]] = {
    "lora": {},
    "lora, attention only": {"network.target": "attention"},
    "rslora, alpha 4": {"network.rank_stabilized": True, "network.alpha": 4.0},
    "lora+, ratio 4, lr 5e-4": {"network.lora_plus": 4.0, "optimizer.lr": 5e-4},
    "lora, max-norm 1": {"network.scale_norm": 1.0},
    "lora with text encoder": {"network.text_encoder": True},
    "dora": {"network.kind": "dora"},
    "loha": {"network.kind": "loha", "network.rank": 8, "network.alpha": 8.0},
    "lokr, factor 4": {
        "network.kind": "lokr", "network.rank": 64, "network.alpha": 64.0, "network.factor": 4,
    },
    "oft": {"network.kind": "oft", "network.target": "full", "network.block_size": 32},
    "textual inversion, 8 tokens": {
        "network.tokens": 8, "network.tokens_only": True, "network.token_lr": 2e-2,
        "network.token_init": "robot",
    },
    "pivotal tuning, 4 tokens": {
        "network.tokens": 4, "network.token_lr": 5e-3, "network.token_init": "robot",
    },
    "adamw8bit": {"optimizer.name": "adamw8bit"},
    "adafactor": {"optimizer.name": "adafactor"},
    "lion": {"optimizer.name": "lion", "optimizer.lr": 3e-4},
    "prodigy": {"optimizer.name": "prodigy", "optimizer.lr": 1.0},
    "dadaptation": {"optimizer.name": "dadaptation", "optimizer.lr": 1.0},
    "schedule_free": {
        "optimizer.name": "schedule_free", "optimizer.schedule": "constant", "optimizer.warmup_steps": 20,
    },
    "came": {"optimizer.name": "came", "optimizer.lr": 3e-4},
    "muon": {"optimizer.name": "muon"},
}  # fmt: skip
"""Row -> what differs from the demo preset."""


def train(changes: dict[str, object], steps: int) -> tuple[str, float, float, float, int]:
    """Run one training; returns its state, both scores, seconds from start to end, and bytes of the file."""
    from loratui.project.demo import make_demo
    from loratui.project.start import start_training
    from loratui.runs.state import ENDED
    from loratui.runs.status import Watch

    with tempfile.TemporaryDirectory() as folder:
        project = make_demo(Path(folder) / "demo")
        config = project.resolve(
            "demo", {**changes, "optimizer.steps": steps, "samples.every": 0, "saving.every": steps}
        )
        begun = time.time()
        run = start_training(project, config, "demo", "demo", score="demo")
        watch = Watch(run)
        while watch.state.state not in ENDED:
            watch.poll()
            time.sleep(0.5)
        files = list(run.export_dir.glob("*.safetensors"))
        scores = watch.state.scores
        return (
            watch.state.state, scores.get("before", float("nan")), scores.get("after", float("nan")),
            time.time() - begun, files[0].stat().st_size if files else 0,
        )  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows to run, by the start of their names")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, help="write the table here as well")
    args = parser.parse_args()
    starts = tuple(args.only.split(",")) if args.only else ("",)
    lines = ["| network | state | before | after | seconds | file |", "|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name, changes in ROWS.items():
        if not name.startswith(starts):
            continue
        state, before, after, seconds, size = train(changes, args.steps)
        score = f"{before:.2f} | {after:.2f}"
        lines.append(f"| {name} | {state} | {score} | {seconds:.0f} | {size / 1e6:.2f} MB |")
        print(lines[-1], flush=True)
        if args.out:
            args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
