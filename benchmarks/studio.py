"""The dataset studio on a large collection: reading, opening, keys, memory, edits.

    python benchmarks/studio.py [--pictures 10000] [--at FOLDER] [--parts scan,open,keys,edit] [--json]

The first call makes the pictures (500 of the size of photos, the rest small) and keeps them under FOLDER.
Then, each figure beside its target:

scan   headers a second into an empty index, the files in the page cache, in a fresh process
open   a pty, from spawn: first frame, and complete list from the index of the last time: its count and rows
keys   a pty, while pictures are measured and thumbnails made: from key to the frame that shows its effect:
       the cursor on another row of the list or label of the grid, as fast as a key repeats; letters typed
       into the filter and the caption editor; `lone` keys, half a second apart, and how long after them
       the name of the picture stands above its preview
edit   seconds to plan and to write a tag into all captions, and to undo it, each byte compared
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT), str(ROOT / "benchmarks")]

from pty_probe import PtyProgram  # noqa: E402
from studio_collection import make, name_of  # noqa: E402
from textual.color import Color  # noqa: E402

from loratui.ui.theme import DARK  # noqa: E402

PARTS = ("scan", "open", "keys", "edit")
_MOVES, _LONE = 60, 20
_CURSOR = b"48;2;%d;%d;%dm" % Color.parse(DARK.variables["cursor-back"]).rgb
"""The ground under the cursor, as it stands before a text on it."""
_SCAN = """
import sys, time
from loratui.project.collection import Collection
from loratui.project.project import Project
project = Project.open(sys.argv[1])
collection = Collection(project, project.resolve().data)
start = time.perf_counter()
found = collection.refresh()
seconds = time.perf_counter() - start
print(found.added + found.changed + found.same, seconds)
"""
_EDIT = """
import json, resource, sys, time
from loratui.dataset.edit_parse import parse_operation
from loratui.project.collection import Collection
from loratui.project.history import Actor
from loratui.project.project import Project
project = Project.open(sys.argv[1])
collection = Collection(project, project.resolve().data)
collection.refresh()
rows = collection.rows()
out, marks = {}, [time.perf_counter()]
batch = collection.plan(parse_operation("add", ["benchmark tag", "last"]), rows)
marks.append(time.perf_counter())
done = collection.commit(batch, Actor("batch", "add"))
marks.append(time.perf_counter())
back = collection.undo().outcome
marks.append(time.perf_counter())
assert not done.left and not done.conflicts and not back.left and not back.conflicts
assert len(done.written) == len(back.written)
plan, commit, undo = (b - a for a, b in zip(marks, marks[1:]))
print(json.dumps({"changed": len(done.written), "plan": plan, "commit": commit, "undo": undo}))
"""


def targets(count: int) -> dict[str, tuple[str, float]]:
    """Figure -> (`<=` or `>=`, value)."""
    large = count > 20_000
    keys = 60 if large else 30
    out = {"scan_images_per_s": (">=", 2000.0), "rss_app_mib": ("<=", 700.0 if large else 300.0)}
    if not large:
        out |= {"first_frame_s": ("<=", 0.5), "list_complete_s": ("<=", 1.0)}
    names = ("list", "grid", "filter", "editor", "all")
    return out | {f"keys_{name}_p95_ms": ("<=", float(keys)) for name in names}


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the others lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Bench:
    """One project, and a state of its own.

    Args:
        project: the folder of pictures.
        count: pictures in it.
        scratch: for settings and state of the app.
        size: columns and rows of the terminal.
    """

    def __init__(self, project: Path, count: int, scratch: Path, size: tuple[int, int]) -> None:
        self.project, self.count, self.size = project, count, size
        self.env = {
            "PYTHONPATH": str(ROOT),
            "LORATUI_STATE": str(scratch / "state"),
            "LORATUI_CONFIG": str(scratch / "config"),
            "PATH": os.environ["PATH"],
            "PYTHONPYCACHEPREFIX": str(scratch / "bytecode"),  # as an installed package has it
        }
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

    def python(self, code: str) -> str:
        """What a fresh interpreter prints."""
        command = [sys.executable, "-c", code, str(self.project)]
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    def forget(self, thumbnails_only: bool = False) -> None:
        """Throw the index or only what was measured away."""
        cache = self.project / ".loratui" / "cache"
        shutil.rmtree(cache / "thumbnails" if thumbnails_only else cache, ignore_errors=True)

    def app(self) -> PtyProgram:
        """The app in a pty."""
        cols, rows = self.size
        argv = [sys.executable, "-m", "loratui", str(self.project)]
        return PtyProgram(argv, cols=cols, rows=rows, env=self.env, cwd=str(self.project))

    # --- the parts --------------------------------------------------------------------------------------

    def scan(self) -> dict[str, float]:
        """Headers into an empty index; once before, so that the page cache holds what is read."""
        rates = []
        for _ in range(4):
            self.forget()
            found, seconds = self.python(_SCAN).split()
            assert int(found) == self.count, found
            rates.append(int(found) / float(seconds))
        _, again = self.python(_SCAN).split()
        return {"scan_images_per_s": max(rates[1:]), "rescan_nothing_new_s": float(again)}

    def open(self) -> dict[str, float]:
        """From spawn to the first frame and to the complete list; the first start is not counted."""
        self.python(_SCAN)
        first, full = [], []
        for turn in range(6):
            with self.app() as p:
                begun = p.wait_text("Dataset")
                listed = p.wait_text(f"{self.count:,} pictures")
                rows = p.wait_text(name_of(0)[:12])
                assert begun and listed and rows, "the app did not show its pictures"
                listed = max(listed, rows)
            if turn:
                first.append(begun)
                full.append(listed)
        return {"first_frame_s": statistics.median(first), "list_complete_s": statistics.median(full)}

    def keys(self) -> dict[str, float]:
        """Keys while pictures are measured; the figures of each kind of key, and the memory at the end."""
        self.python(_SCAN)
        self._unmeasure()
        found: dict[str, list[float]] = {}
        with self.app() as p:
            assert p.wait_text(f"{self.count:,} pictures") and p.wait_text("measuring", 60)
            p.listen(1.0)
            found["list"] = self._moves(p, "down", 0)
            found["lone"], shown = self._lone(p, _MOVES)
            p.press("t", 1.0)
            found["grid"] = self._moves(p, "right", _MOVES + _LONE)
            found["grid"] += self._pages(p)
            p.press("t", 0.5)
            p.press("home", 0.5)
            p.press("/", 0.5)
            found["filter"] = self._typed(p, "tag:red* AND width:>200", "")
            p.press("escape", 1.0)
            p.press("e", 0.5)
            found["editor"] = self._typed(p, ", quiet zebra, long ha, red do", "end")
            p.press("ctrl+s", 0.5)
            p.press("escape", 0.5)
            p.press("u", 1.0)
            children, app = p.rss(), _rss(p.pid)
        out: dict[str, float] = {"rss_app_mib": app, "rss_with_worker_mib": children}
        found["all"] = [value for values in found.values() for value in values]
        out["picture_shown_p95_ms"] = 1000 * percentile(shown, 0.95)
        for name, values in found.items():
            out |= {
                f"keys_{name}_p50_ms": 1000 * percentile(values, 0.5),
                f"keys_{name}_p95_ms": 1000 * percentile(values, 0.95),
                f"keys_{name}_most_ms": 1000 * max(values),
            }
        return out

    def _unmeasure(self) -> None:
        import sqlite3

        self.forget(thumbnails_only=True)
        db = sqlite3.connect(self.project / ".loratui" / "cache" / "index.sqlite")
        db.execute("UPDATE pictures SET measured = '', sharpness = NULL, phash = NULL")
        db.commit()
        db.close()

    def _moves(self, p: PtyProgram, key: str, start: int) -> list[float]:
        """One picture on, until its row, or its label in the grid, is painted as that of the cursor."""
        return [
            _until(p, key, _cursor_on(number))
            for number in range(start + 1, start + _MOVES + 1)
            if number < self.count
        ]

    def _lone(self, p: PtyProgram, start: int) -> tuple[list[float], list[float]]:
        """Keys that nothing else comes after: until the row is painted, and until the picture's title is."""
        painted, shown = [], []
        for number in range(start + 1, start + _LONE + 1):
            begin, at = time.perf_counter(), len(p.raw)
            painted.append(_until(p, "down", _cursor_on(number), then=0))
            _wait(p, re.compile(re.escape(name_of(number).encode())), at, begin)
            shown.append(time.perf_counter() - begin)
            p.listen(0.5)
        return painted, shown

    def _pages(self, p: PtyProgram) -> list[float]:
        """Pages of thumbnails that are not made yet, until the cursor stands on another of them."""
        here, out = _cursor_on(_MOVES + _LONE + _MOVES), []
        for key in ("pagedown",) * 15 + ("pageup",) * 5:
            at = len(p.raw)
            out.append(
                _until(p, key, re.compile(_CURSOR + rb"(?!" + here.pattern[len(_CURSOR) :] + rb")\d{6}-"))
            )
            found = re.findall(_CURSOR + rb"(\d{6})-", bytes(p.raw[at:]))
            here = _cursor_on(int(found[-1]))
        return out

    def _typed(self, p: PtyProgram, words: str, before: str) -> list[float]:
        """Letters, each until the text up to it stands in a frame; now and then the list may follow."""
        if before:
            p.press(before, 0.3)
        out = []
        for at, letter in enumerate(words, 1):
            shown = words[:at].split(", ")[-1].rstrip()
            if letter == " ":  # nothing to see
                p.press(letter, 0.05)
                continue
            out.append(_until(p, letter, re.compile(re.escape(shown.encode()))))
            if at % 10 == 0:
                p.listen(0.4)
        return out

    def edit(self) -> dict[str, float]:
        """A tag into all captions and out again; each byte must come back."""
        shutil.rmtree(self.project / ".loratui" / "history", ignore_errors=True)
        before = self._captions()
        found: dict[str, float] = json.loads(self.python(_EDIT))
        assert self._captions() == before, "undo did not bring every byte back"
        shutil.rmtree(self.project / ".loratui" / "history", ignore_errors=True)
        return {"edit_captions": found.pop("changed"), **{f"edit_{k}_s": v for k, v in found.items()}}

    def _captions(self) -> str:
        whole = hashlib.sha256()
        for path in sorted((self.project / "dataset").glob("*.txt")):
            whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return whole.hexdigest()


def _cursor_on(number: int) -> re.Pattern[bytes]:
    """The name of a picture on the ground that the cursor has."""
    return re.compile(_CURSOR + b"%06d-" % number)


def _until(p: PtyProgram, key: str, needle: re.Pattern[bytes], then: float = 0.03) -> float:
    """Seconds from a key to a frame with this in it; `then` as long as until a key repeats."""
    while p.pump(0) > 0:
        pass
    start, begin = len(p.raw), time.perf_counter()
    p.press(key, 0)
    _wait(p, needle, start, begin)
    seconds = time.perf_counter() - begin
    p.listen(then)
    return seconds


def _wait(p: PtyProgram, needle: re.Pattern[bytes], start: int, begin: float) -> None:
    while not needle.search(p.raw, start):
        left = begin + 5 - time.perf_counter()
        if left <= 0 or p.pump(left) < 0:
            raise SystemExit(f"{needle.pattern!r} did not come\n" + "\n".join(p.screen()))


def _rss(pid: int) -> float:
    """MiB of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def shown(result: dict[str, Any], wanted: dict[str, tuple[str, float]]) -> str:
    """Figures, targets and whether they hold."""
    lines = []
    for name, value in result.items():
        digits = 2 if name.endswith("_s") and "per" not in name else 1
        line = f"{name:24} {value:>10,.{digits}f}" if isinstance(value, float) else f"{name:24} {value:>10}"
        if name in wanted:
            sign, limit = wanted[name]
            holds = value <= limit if sign == "<=" else value >= limit
            line += f"   {sign} {limit:g}  {'holds' if holds else 'MISSED'}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--at", type=Path, default=Path(tempfile.gettempdir()) / "loratui-studio")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--size", default="160x48")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    project = make(args.at / f"c{args.pictures}", args.pictures)
    cols, rows = map(int, args.size.split("x"))
    result: dict[str, Any] = {"pictures": args.pictures, "size": args.size}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(project, args.pictures, Path(scratch), (cols, rows))
        for part in args.parts.split(","):
            measure: Callable[[], dict[str, float]] = getattr(bench, part)
            result |= measure()
    wanted = targets(args.pictures)
    if args.json:
        result["targets"] = {k: f"{sign} {value:g}" for k, (sign, value) in wanted.items() if k in result}
        print(json.dumps(result))
    else:
        print(shown(result, wanted))


if __name__ == "__main__":
    main()
