"""A caption run on a file system that really is full: said, nothing lost, and a resume does the rest."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import caption_kit as kit
import pytest
from test_caption_faults import own_folders, server

from loratui.caption.results import Results
from loratui.caption.start import prepare_captions, start_captions
from loratui.project.history import History
from loratui.runs.launch import resume
from loratui.runs.status import wait

__all__ = ["own_folders", "server"]
COUNT = 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount: {error}")
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield place
    for _ in range(50):  # a process that ends may still hold it
        if not subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
            return
        time.sleep(0.1)


def fill(path: Path) -> None:
    """Take the last byte of the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while os.write(fd, b"x" * size):
                    pass
    os.close(fd)


def test_a_full_file_system(small_disk: Path, server: tuple[str, Counter[str]]) -> None:
    endpoint, asked = server
    project = kit.project(small_disk / "p", COUNT)
    data = project.root / "dataset"
    options = {"endpoint": endpoint, "model": "m", "retries": 0, "batch_size": 1}
    run = start_captions(project, prepare_captions(project, ["openai-api"], options))
    filler = small_disk / "filler"
    over = threading.Event()

    def fill_it() -> None:
        while len(asked) < COUNT // 3:
            time.sleep(0.005)
        while not over.is_set():  # what is deleted is taken again
            fill(filler)
            time.sleep(0.02)

    taker = threading.Thread(target=fill_it, daemon=True)
    taker.start()
    try:
        ended = wait(run)
    finally:
        over.set()
        taker.join()
    assert ended.state == "failed", (ended.state, ended.reason)
    assert ended.reason.startswith("The disk is full") and "resume" in ended.advice, ended.reason
    before = {path.name: path.read_text() for path in data.glob("*.txt")}
    assert len(before) < COUNT
    for name, text in before.items():  # whole, or not there
        assert text.startswith("sks robot, answer of ") and text.endswith("\n"), (name, text)
    assert not [p for p in data.iterdir() if p.suffix not in {".png", ".txt"}]
    filler.unlink()
    History(project.root).recover()
    resume(run)
    ended = wait(run)
    assert ended.state == "finished", (ended.state, ended.reason)
    after = {path.name: path.read_text() for path in data.glob("*.txt")}
    assert len(after) == COUNT and before.items() <= after.items()
    assert Results(run.path).counts() == {"written": COUNT}
    said = Counter(
        record["i"]
        for record in map(json.loads, (run.path / "results.jsonl").read_text().splitlines())
        if record["kind"] == "said"
    )
    assert set(said.values()) == {1} and len(said) == COUNT
    written: Counter[str] = Counter()
    for entry in History(project.root).entries():
        written.update(record.path for record in entry.files)
    assert len(written) == COUNT and set(written.values()) == {1}
