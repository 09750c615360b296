"""How soon the plan follows a change of the form, for ten thousand pictures: from settings to problems.

    python benchmarks/plan.py [--pictures 10000] [--at FOLDER] [--times 15] [--json]

What the Train room does in its thread after a change: resolve preset and edits, put the pictures into the
buckets of other data settings where those changed, check settings and pictures, count steps, sizes, disk and
memory, look up what is known of memory and speed. The pictures are those of `benchmarks/studio.py`.

lr     a change that moves no picture
batch  other batches of the same buckets
size   another resolution: every picture in another bucket
flip   captions are searched for words that mirroring makes untrue
first  the first plan after the pictures were read, nothing kept from before
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from studio_collection import make  # noqa: E402

LIMIT_MS = 100.0
PRESET = "sd15-character"
CHANGES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "lr": ({"optimizer.lr": 2e-4}, {"optimizer.lr": 3e-4}),
    "batch": ({"data.batch_size": 2}, {"data.batch_size": 3}),
    "size": ({"data.resolution": 448}, {"data.resolution": 576}),
    "flip": ({"data.flip": True, "optimizer.lr": 2e-4}, {"data.flip": True, "optimizer.lr": 3e-4}),
}


def measure(project_root: Path, times: int) -> dict[str, float]:
    """Milliseconds of each kind of change: median and 95th percentile."""
    from loratui.dataset.scan import rebucket
    from loratui.project import Project
    from loratui.project.collection import Collection
    from loratui.ui.planning import make_plan
    from loratui.ui.still import making_rows

    project = Project.open(project_root)
    preset = project.load_preset(PRESET)
    seen = project.resolve(PRESET).data
    collection = Collection(project, seen)
    collection.refresh()
    scan = collection.scan()
    # each of another size, as crops of photos are: what was found for one says nothing of the next
    pictures = [
        replace(p, width=p.width + n % 97, height=p.height + n // 97) for n, p in enumerate(scan.pictures)
    ]
    with making_rows():  # as the app: pictures that stay are not walked for garbage
        scan = rebucket(replace(scan, pictures=tuple(pictures)), seen)

    def one(edits: Mapping[str, Any]) -> float:
        start = time.perf_counter()
        made = make_plan(0, project, preset, dict(edits), scan, seen)
        seconds = time.perf_counter() - start
        assert made.ready is not None, made.problems
        assert made.ready.plan.images == len(scan.pictures)
        return 1000 * seconds

    out: dict[str, float] = {"first_ms": one({})}
    for name, changes in CHANGES.items():
        found = sorted(one(changes[turn % len(changes)]) for turn in range(times))
        out[f"{name}_p50_ms"] = statistics.median(found)
        out[f"{name}_p95_ms"] = found[min(len(found) - 1, int(0.95 * len(found)))]
    return out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--at", type=Path, default=Path(tempfile.gettempdir()) / "loratui-studio")
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    project = make(args.at / f"c{args.pictures}", args.pictures)
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("STATE", "CONFIG", "CACHE"):
            os.environ[f"LORATUI_{name}"] = f"{scratch}/{name.lower()}"
        found = measure(project, args.times)
    if args.json:
        print(json.dumps({"pictures": args.pictures, **found}))
        return
    print(f"{args.pictures:,} pictures, wanted: {LIMIT_MS:g} ms")
    for name, value in found.items():
        print(f"{name:14} {value:8.1f}   {'holds' if value <= LIMIT_MS else 'MISSED'}")


if __name__ == "__main__":
    main()
