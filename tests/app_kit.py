"""Projects and runs for tests of the app: made in a moment, hostile on request."""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from loratui.runs import snapshot
from loratui.runs.directory import RunDir
from loratui.runs.events import encode_line
from loratui.runs.liveness import process_identity

RECORDED = Path(__file__).parent / "data" / "recorded_run" / "20260102-140000-sks-robot"
CAPTIONED = Path(__file__).parent / "data" / "recorded_captions" / "20260102-150000-captions"
APP = [sys.executable, "-m", "loratui"]

PAYLOADS = (
    "\x1b]52;c;UFdORUQ=\x07",  # OSC 52: writes the clipboard
    "\x1b]0;PWNED\x1b\\",  # OSC 0: sets the title
    "\x1b[6n\x1b[20t",  # CSI: makes the terminal answer
    "\x1bP+q544e\x1b\\",  # DCS: asks for a capability
    "\x9b31mPWNED\x9d0;PWNED\x9c",  # the same as single C1 characters
    "\u202egnp.dnwp\u2066x\u2069",  # turns the line around
    "[/b][@click=app.quit]PWNED[/]",  # Textual markup
)
HOSTILE = "".join(PAYLOADS)


def leaks(raw: bytes) -> list[str]:
    """What of `HOSTILE` got through to the terminal.

    The app itself writes two OSC (22, the shape of the mouse pointer; 9 behind a bell, with cleaned text), no
    DCS in an xterm, and no C1.
    """
    text = re.sub(r"\x1b\]22;[a-z-]*\x07", "", bytes(raw).decode("utf-8", "replace"))
    text = re.sub(r"\x07\x1b\]9;loratui: [^\x00-\x1f]*\x1b\\", "", text)
    found = [name for name in ("\x1b]", "\x1bP", "\x1b[6n", "\x1b[20t", "\x07") if name in text]
    found += sorted({repr(c) for c in text if "\x80" <= c <= "\x9f" or c in "\u202e\u2066\u2069"})
    return found


def environment(folder: Path) -> dict[str, str]:
    """What a process of the app needs: the checkout, a state folder of its own."""
    here = str(Path(__file__).parent.parent)
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])),
        "LORATUI_STATE": str(folder / "state"),
        "LORATUI_CONFIG": str(folder / "config"),
        "LORATUI_CACHE": str(folder / "cache"),
    }


def picture(path: Path, size: tuple[int, int] = (96, 64), seed: int = 0) -> None:
    """A small picture with a gradient, so that half blocks differ."""
    width, height = size
    image = Image.new("RGB", size)
    image.putdata(
        [
            ((x * 2 + seed * 37) % 256, (y * 3 + seed * 91) % 256, (seed * 53) % 256)
            for y in range(height)
            for x in range(width)
        ]
    )
    image.save(path)


def project(folder: Path, pictures: int = 6, name: str = "robot", trigger: str = "sks robot") -> Path:
    """A project of the demo base; every third picture has no caption."""
    from loratui.config.toml import quote

    data = folder / "dataset"
    data.mkdir(parents=True)
    for number in range(1, pictures + 1):
        picture(data / f"{number:02d}.png", seed=number)
        if number % 3:
            (data / f"{number:02d}.txt").write_text(f"{trigger}, picture {number}\n")
    lines = [
        "[project]",
        f"name = {quote(name)}",
        'base = "demo"',
        f"trigger = {quote(trigger)}",
        'preset = "demo"',
        'prompts = ["{trigger}"]',
    ]
    (folder / "loratui.toml").write_text("\n".join(lines) + '\n\n[[sources]]\npath = "dataset"\n')
    return folder


def sdxl_file(path: Path, *more: str) -> Path:
    """A sparse file with the header of an SDXL base of true size."""
    shapes = {
        "model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3],
        "model.diffusion_model.output_blocks.0.1.transformer_blocks.0.attn1.to_q.weight": [1280, 1280],
        "model.diffusion_model.rest": [2_565_000_000],
        "conditioner.embedders.0.transformer.text_model.x": [8],
        "conditioner.embedders.1.model.x": [816_000_000],
        "first_stage_model.post_quant_conv.weight": [4, 4, 1, 1],
        "first_stage_model.encoder.down.3.block.0.conv1.weight": [512, 512, 3, 3],
        **{name: [1] for name in more},
    }
    entries, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    return path


class RunWriter:
    """Writes a run as a job would, with this process as the job."""

    def __init__(self, root: Path, stem: str = "robot", **opened: Any) -> None:
        self.run = RunDir.create(root / "runs", stem)
        self._n = 0
        self.write(
            "opened",
            **{
                "run_id": self.run.id,
                "job": "train",
                "name": stem,
                "base": "demo",
                "preset": "demo",
                "family": "sd15",
                "attempt": 1,
                "from_step": 0,
                "steps": 100,
                "epochs": 10,
                "prompts": ["sks robot"],
                "trigger": "sks robot",
                "version": "0",
            }
            | opened,
        )

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event."""
        self._n += 1
        event = {"n": self._n, "t": time.time(), "a": 1, "kind": kind, **fields}
        with self.run.events_path.open("ab") as file:
            file.write(encode_line(event))

    def alive(self, pid: int | None = None) -> None:
        """Say that a process (this one when None) is the job."""
        self.write("process", **process_identity(pid).as_dict(), device="cpu")

    def steps(self, first: int, last: int) -> None:
        """Train steps `first` to `last`."""
        for step in range(first, last + 1):
            self.write(
                "step", step=step, epoch=1, loss=0.1 + 1 / step, lr={"unet": 1e-4}, step_s=0.1, images=4
            )

    def save_status(self) -> None:
        """Leave a status.json, as the job's journal does twice a second."""
        folded = snapshot.load(self.run)
        end = snapshot.ending(self.run.events_path, folded.offset)
        self.run.status_path.write_bytes(snapshot.encode(folded.state, folded.offset, end, {}))

    def many_steps(self, first: int, last: int) -> None:
        """Two events a step, written at once."""
        lines = []
        now = time.time() - 0.2 * (last - first)
        for step in range(first, last + 1):
            now += 0.2
            rss = {"device": "cpu", "rss_gib": 1.0}
            body = {"step": step, "epoch": 1, "loss": 0.1 + 1 / step, "lr": {"unet": 1e-4}, "step_s": 0.2}
            for kind, fields in (("step", body), ("memory", rss)):
                self._n += 1
                lines.append(encode_line({"n": self._n, "t": now, "a": 1, "kind": kind, **fields}))
        with self.run.events_path.open("ab") as file:
            file.write(b"".join(lines))
