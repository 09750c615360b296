"""What each network, each optimizer and each way of training learns on the demo, as a Markdown table.

    python benchmarks/learning.py [--only "dora,optimizer lion"] [--again] [--out benchmarks/learning.md]
    python benchmarks/learning.py --try network.token_lr=0.01 --row "textual inversion"

Trains the demo's sixteen pictures on the bundled base with the demo preset and one change each. `score` is
the demo score: the share of pictures in which an independent judge finds the mascot on a background it was
never shown on, of 48 or fewer with --seeds. `class` is the share of as many pictures of `robot`, without the
trigger, that keep the class: the asked background and not the mascot. The row of prior preservation trains
with pictures of the class that the base draws itself. Rows that the table in --out has already are kept, so
that it can be made in parts; they are made again when the base, the preset or the row's settings change.
About two minutes a row on one core.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CLASS = "robot"
SHORT = {"optimizer.steps": 200}
LION = {"optimizer.name": "lion", "optimizer.lr": 1e-3}  # all 600 steps
ROWS: dict[str, dict[str, Any]] = {
    "default preset": SHORT,
    "all 600 steps of the default preset": {},
    "network lora, attention only": {"network.target": "attention"} | SHORT,
    "network rslora, alpha 4": {"network.rank_stabilized": True, "network.alpha": 4.0} | SHORT,
    "network lora+, ratio 4": {"network.lora_plus": 4.0, "optimizer.lr": 5e-4} | SHORT,
    "network lora, max-norm 1": {"network.scale_norm": 1.0} | SHORT,
    "network dora": {"network.kind": "dora"} | SHORT,
    "network loha": {"network.kind": "loha", "network.rank": 8, "network.alpha": 8.0},
    "network lokr, factor 4": {
        "network.kind": "lokr", "network.rank": 64, "network.alpha": 64.0, "network.factor": 4,
    },
    "network oft": {
        "network.kind": "oft", "network.target": "full", "network.block_size": 32, "optimizer.lr": 3e-3,
    },
    "text encoder too": {"network.text_encoder": True} | SHORT,
    "textual inversion": {  # long, at a high rate: see below the table
        "network.tokens": 24, "network.tokens_only": True, "network.token_lr": 1.5,
        "network.token_init": "creature", "objective.weighting": "debiased", "objective.min_snr_gamma": 0.0,
        "optimizer.steps": 2500, "data.batch_size": 8,
    },
    "pivotal tuning": {
        "network.tokens": 4, "network.token_lr": 5e-3, "network.token_init": CLASS,
    } | SHORT,
    "optimizer adamw8bit": {"optimizer.name": "adamw8bit"} | SHORT,
    "optimizer adafactor": {"optimizer.name": "adafactor"} | SHORT,
    "optimizer lion": LION | SHORT,
    "optimizer lion8bit": {"optimizer.name": "lion8bit", "optimizer.lr": 1e-3} | SHORT,
    "optimizer prodigy": {"optimizer.name": "prodigy", "optimizer.lr": 1.0} | SHORT,
    "optimizer dadaptation": {"optimizer.name": "dadaptation", "optimizer.lr": 0.5} | SHORT,
    "optimizer schedule_free": {
        "optimizer.name": "schedule_free", "optimizer.schedule": "constant", "optimizer.warmup_steps": 20,
    } | SHORT,
    "optimizer came": {"optimizer.name": "came", "optimizer.lr": 3e-4} | SHORT,
    "optimizer muon": {"optimizer.name": "muon", "optimizer.lr": 1e-2} | SHORT,
    "optimizer other: Adan": {
        "optimizer.name": "other", "optimizer.other": "Adan", "optimizer.lr": 5e-3,
    } | SHORT,
    "prior preservation": {"data.reg_dir": "class", "data.batch_size": 8} | LION,
    "the same without it": LION,
}  # fmt: skip
"""Row -> what differs from the demo preset."""
BASE = "the base alone"
OF_CLASS = ("default preset", "prior preservation", "the same without it")
"""Rows whose class is looked at."""
HEAD = "| row | score | class | pictures | steps | seconds | file | key |\n|---|---|---|---|---|---|---|---|"
ABOUT = """# What is learned on the demo

Made by `python benchmarks/learning.py`, which says what the columns are. One run a row, one seed. Of 48
pictures, a score of 0.5 has a 95 % interval of about +-0.14, of 24 one of +-0.20. Seconds are those of
the training alone, on a loaded machine.
"""


class Bench:
    """The demo project in a temporary folder, and runs in it."""

    def __init__(self, folder: Path) -> None:
        from loratui.project.demo import make_demo

        self.project = make_demo(folder / "demo")
        self.runs = 0

    def assemble(self, changes: dict[str, Any]) -> Any:
        """A training of the demo preset with changes, ready to go."""
        from loratui.config.run import RunInfo
        from loratui.config.write import write_run
        from loratui.jobs._main import Context
        from loratui.project import manifest
        from loratui.project.start import prepare
        from loratui.runs.directory import RunDir
        from loratui.runs.journal import Journal
        from loratui.runs.launch import open_attempt
        from loratui.train.assemble import assemble

        quiet = {"samples.every": 0, "saving.every": 100_000, "memory.device": "cpu"}
        if changes.get("data.reg_dir") and not (self.project.root / "class").exists():
            self.draw_class(self.project.root / "class" / f"1_{CLASS}")
        ready = prepare(self.project, self.project.resolve("demo", quiet | changes))
        run = RunDir.create(self.project.runs_dir, f"row{self.runs}")
        self.runs += 1
        info = RunInfo(
            id=run.id, name="row", project=str(self.project.root), base_path=str(ready.base),
            family=ready.family, trigger=self.project.trigger, steps=ready.config.optimizer.steps, epochs=1,
        )  # fmt: skip
        write_run(run.config_path, info, ready.config)
        manifest.write(run, self.project, ready.config, ready.scan)
        journal = Journal(run, heartbeat=False)
        open_attempt(journal, "train", 0)
        return assemble(Context(run, journal))

    def draw_class(self, folder: Path) -> None:
        """Sixteen pictures of the class as the base draws it, on the backgrounds of the training pictures."""
        from loratui import demo
        from loratui.jobs.demo_score import draw

        folder.mkdir(parents=True)
        training = self.assemble({"optimizer.steps": 1})
        with training.adapter.scaled_off():
            for n, colour in enumerate(demo.TRAINED_BACKGROUNDS):
                prompt = f"{CLASS}, {colour} background"
                for m, picture in enumerate(draw(training, prompt)[:2]):
                    picture.save(folder / f"{n}{m}.png")
                    (folder / f"{n}{m}.txt").write_text(prompt, encoding="utf-8")
        training.journal.close()

    def train(self, changes: dict[str, Any], of_class: bool) -> Row:
        """Train to the end and score."""
        from loratui.jobs.train import finish
        from loratui.train.loop import train

        training = self.assemble(changes)
        try:
            begun = time.perf_counter()
            assert train(training)
            seconds = time.perf_counter() - begun
            with training.published.weights():
                finish(training)
                score, kept = scores(training, of_class)
            files = list(training.context.run.export_dir.glob("*.safetensors"))
            return Row(score, kept, training.step, seconds, sum(f.stat().st_size for f in files))
        finally:
            training.journal.close()

    def base(self) -> Row:
        """The scores of the base alone."""
        training = self.assemble({"optimizer.steps": 1})
        try:
            with training.adapter.scaled_off():
                return Row(*scores(training, True))
        finally:
            training.journal.close()


@dataclass(frozen=True)
class Row:
    """What a run learned: the two scores, steps, seconds of training, bytes of its files."""

    score: float
    kept: float | None
    steps: int = 0
    seconds: float = 0.0
    size: int = 0

    def line(self, name: str, key: str) -> str:
        """As a line of the table."""
        from loratui import demo

        kept = "" if self.kept is None else f"{self.kept:.2f}"
        pictures = len(demo.HELD_OUT_BACKGROUNDS) * len(demo.SCORE_SEEDS)
        run = (
            f"{self.steps} | {self.seconds:.0f} | {self.size / 1e6:.2f} MB" if self.steps else " | | "
        ).strip()
        return f"| {name} | {self.score:.2f} | {kept} | {pictures} | {run} | {key} |"


def scores(training: Any, of_class: bool) -> tuple[float, float | None]:
    """(demo score, share of the class's pictures that are still of the class, where that is asked for)."""
    from loratui import demo
    from loratui.demo.scorer import judge
    from loratui.jobs.demo_score import draw

    found = kept = asked = 0
    for colour in demo.HELD_OUT_BACKGROUNDS:
        own = draw(training, f"{demo.TRIGGER}, {colour} background")
        found += sum(v.found for v in judge(own, [colour] * len(own)))
        asked += len(own)
        if of_class:
            others = draw(training, f"{CLASS}, {colour} background")
            verdicts = judge(others, [colour] * len(others))
            kept += sum(v.background == colour and not v.mascot for v in verdicts)
    return found / asked, kept / asked if of_class else None


def key_of(changes: dict[str, Any]) -> str:
    """Short hash of the settings and of the base's weights."""
    from loratui import demo

    weights = hashlib.sha256()
    for path in sorted(demo.base_path().rglob("*.safetensors")):
        weights.update(path.read_bytes())
    preset = (ROOT / "presets" / "demo.toml").read_text(encoding="utf-8")
    return hashlib.sha256(f"{weights.hexdigest()} {preset} {changes}".encode()).hexdigest()[:8]


def read_table(path: Path | None) -> dict[str, str]:
    """Name -> line of the rows of a table that was made before."""
    if path is None or not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}


def write_table(path: Path | None, done: dict[str, str]) -> None:
    """Write the rows in their order, and keep what stands below the table."""
    if path is None:
        return
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    notes = old.partition("\n## ")
    kept = notes[1] + notes[2]
    rows = [done[name] for name in (BASE, *ROWS) if name in done]
    path.write_text("\n".join([ABOUT, HEAD, *rows, ""]) + kept, encoding="utf-8")


def add(path: Path | None, name: str, line: str) -> None:
    """Put one row into the table; others may do so at the same time."""
    if path is None:
        return
    with Path(f"{tempfile.gettempdir()}/loratui-learning.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_table(path, read_table(path) | {name: line})


def main() -> None:
    """Command line."""
    from loratui import demo

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows to run, by the start of their names")
    parser.add_argument("--seeds", type=int, default=16, help="pictures for each of the three backgrounds")
    parser.add_argument("--minutes", type=float, default=600, help="begin no row after so many")
    parser.add_argument("--again", action="store_true", help="run rows again that the table has")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "learning.md")
    parser.add_argument("--row", default="default preset", help="with --try: the row to change")
    parser.add_argument("--try", dest="changes", nargs="+", default=[], metavar="KEY=VALUE",
                        help="train one row with other settings, and leave the table alone")  # fmt: skip
    args = parser.parse_args()
    demo.SCORE_SEEDS = demo.SCORE_SEEDS[: args.seeds]
    until = time.monotonic() + 60 * args.minutes
    starts = tuple(args.only.split(",")) if args.only else ("",)
    with tempfile.TemporaryDirectory(prefix="loratui-learning-") as folder:
        bench = Bench(Path(folder))
        if args.changes:
            given = dict(text.split("=", 1) for text in args.changes)
            changes = ROWS[args.row] | {k: _value(v) for k, v in given.items()}
            found = bench.train(changes, args.row in OF_CLASS)
            print(found.line(f"{args.row}: {given}", key_of(changes)), flush=True)
            return
        print(HEAD, flush=True)
        for name, changes in ((BASE, {}), *ROWS.items()):
            done, key = read_table(args.out), key_of(changes)
            if not name.startswith(starts) or (not args.again and done.get(name, "").endswith(f"| {key} |")):
                continue
            if time.monotonic() > until:
                break
            found = bench.base() if name == BASE else bench.train(changes, name in OF_CLASS)
            print(found.line(name, key), flush=True)
            add(args.out, name, found.line(name, key))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
