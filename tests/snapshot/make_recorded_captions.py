"""Write tests/data/recorded_captions: a caption run as its job leaves it, small and always the same.

    python tests/snapshot/make_recorded_captions.py

Captions and times are invented; the events are of the kinds and in the order a caption run writes them, and
name pictures `dataset/01.png` to `dataset/24.png`.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from make_recorded_run import START, Writer

TARGET = Path(__file__).parent.parent / "data" / "recorded_captions" / "20260102-150000-captions"
PICTURES, BATCH, PINNED = 24, 4, 3
THINGS = (
    "a red robot on a white table",
    "two robots in the rain",
    "a robot that waves",
    "a close-up of a hand",
)
PLACES = ("in front of a brick wall", "at night, lit from the left", "in a bright workshop", "on grass")


def main() -> None:
    """Write the whole directory anew."""
    shutil.rmtree(TARGET.parent, ignore_errors=True)
    TARGET.mkdir(parents=True)
    dice = random.Random(3)
    out = Writer()
    out.now = START + 3600
    out.write(
        "opened", run_id=TARGET.name, job="caption", name="captions", base="", preset="", family="blip+wd",
        attempt=1, from_step=0, steps=PICTURES, epochs=1, prompts=[], trigger="sks robot", version="0.1.0",
    )  # fmt: skip
    out.write("state", state="starting")
    out.write(
        "process",
        0.4,
        host="workshop",
        pid=4243,
        process_start=1.0,
        boot_id="recorded",
        device="cpu, 2 threads",
    )
    for done, title in enumerate(("BLIP", "WD tagger")):
        out.write("progress", 2.0, what=f"loading {title}", done=done, total=2)
    out.write("state", 1.0, state="running")
    counts = {"written": 0, "left": 0, "failed": 0, "pinned": PINNED}
    out.write("captions", **counts)
    for first in range(0, PICTURES, BATCH):
        took = BATCH * 0.55 * dice.uniform(0.95, 1.05)
        for index in range(first, first + BATCH):
            rel = f"dataset/{index + 1:02d}.png"
            state, text, reason = "written", f"sks robot, {dice.choice(THINGS)}, {dice.choice(PLACES)}", ""
            if index == 9:
                state, text, reason = (
                    "failed",
                    "",
                    f"/home/user/sks-robot/{rel} is cut off.",
                )
            elif index in {4, 13}:
                state, text, reason = "left", "", "has a caption already"
            counts[state] += 1
            out.write(
                "captioned", took if index == first else 0.0, index=index, rel=rel, state=state, text=text,
                reason=reason,
            )  # fmt: skip
            if state == "failed":
                out.write("warning", code="picture-failed", message=reason, advice="")
        out.write("captions", **counts)
        out.write("step", step=first + BATCH, step_s=round(took / BATCH, 4), images=1)
        out.write("memory", device="cpu", rss_gib=1.93, peak_gib=2.11)
    out.write("log", level="info", message="pictures at a time: blip 4, wd 16")
    out.write("captions", **counts)
    words = f"{counts['written']} captioned, {counts['left']} left as they were, {counts['failed']} failed"
    out.write("state", 0.1, state="finished", reason=f"{words}, {PINNED} kept as edited by hand")
    (TARGET / "events.jsonl").write_bytes(b"".join(out.lines))


if __name__ == "__main__":
    main()
