"""Child of the kill tests: one batch over every caption of a project, then a line on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

from loratui.project.history import Actor, FileChange, History


def main(root: Path, mark: bytes) -> None:
    history = History(root, timeout=60)
    changes = []
    for path in sorted(root.glob("*.png")):
        caption = path.with_suffix(".txt")
        before = caption.read_bytes() if caption.exists() else None
        changes.append(FileChange(caption, before, (before or b"new") + mark))
    history.on_progress = lambda done, of: print(f"at {done}", flush=True)
    print("go", flush=True)
    outcome = history.commit(changes, Actor("batch", "mark"), mark.decode())
    print(f"done {len(outcome.written)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].encode())
