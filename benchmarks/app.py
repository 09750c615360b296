"""Start and keys of the app on the demo project, in a real pty.

    python benchmarks/app.py [--size 120x40] [--runs 7] [--json]

Prints the seconds from spawn to the first frame (the header with the project's name) and to the full list,
warm (the first start is not counted), the ratio to a bare Textual app of one label started in the same
way in the same run, the 95th percentile of key to paint, the app's memory, and whether torch is loaded in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from pty_probe import PtyProgram  # noqa: E402

BARE = """
from textual.app import App
from textual.widgets import Label

class Bare(App):
    def compose(self):
        yield Label("ready-now")

Bare().run()
"""


def environment(folder: Path) -> dict[str, str]:
    """The caller's, with settings and state of its own."""
    return {
        "PYTHONPATH": str(ROOT),
        "LORATUI_STATE": str(folder / "state"),
        "LORATUI_CONFIG": str(folder / "config"),
        "PATH": os.environ["PATH"],
    }  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the others lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def loads_torch(pid: int) -> bool:
    """Whether a torch library is mapped into the process."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cols, rows = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = environment(folder)
        new = [
            sys.executable,
            "-m",
            "loratui",
            "new",
            "my-robot",
            "--base",
            "demo",
            "--images",
            str(ROOT / "loratui/demo/pictures"),
        ]
        subprocess.run(new, cwd=folder, env={**os.environ, **env}, check=True, capture_output=True)
        app = [sys.executable, "-m", "loratui", "my-robot"]
        bare, first, full, keys, rss, torch_in = [], [], [], [], 0.0, False
        for turn in range(args.runs + 1):
            with PtyProgram([sys.executable, "-c", BARE], cols=cols, rows=rows, env=env) as p:
                seconds = p.wait_text("ready-now")
            with PtyProgram(app, cols=cols, rows=rows, env=env, cwd=str(folder)) as q:
                begun, listed = q.wait_text("Dataset"), q.wait_text("16.png")
                q.settle(0.3)
                if turn:
                    for key in ("down", "down", "up", "pagedown", "pageup"):
                        painted = q.key(key)[0]
                        if painted is not None:
                            keys.append(painted)
                    rss, torch_in = q.rss(), torch_in or loads_torch(q.pid)
            if turn and seconds and begun and listed:
                bare.append(seconds)
                first.append(begun)
                full.append(listed)
    result = {
        "size": args.size,
        "bare_textual_s": round(statistics.median(bare), 3),
        "first_frame_s": round(statistics.median(first), 3),
        "first_frame_ratio": round(statistics.median(first) / statistics.median(bare), 2),
        "list_s": round(statistics.median(full), 3),
        "key_p95_ms": round(1000 * percentile(keys, 0.95), 1),
        "rss_mib": round(rss),
        "torch_loaded": torch_in,
    }
    print(json.dumps(result) if args.json else "\n".join(f"{k:18} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
