"""The Samples room in a terminal with pictures: a new sample disturbs none, a flip back sends none."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_kit import APP, RunWriter, environment, picture, project
from pty_probe import PtyProgram, images_seen


def draw(writer: RunWriter, step: int) -> None:
    folder = writer.run.samples_dir / f"step-{step:06d}"
    folder.mkdir(parents=True)
    picture(folder / "00.png", (64, 64), seed=step)
    path = f"samples/step-{step:06d}/00.png"
    writer.write("sample", step=step, index=0, prompt="sks robot", seed=1, path=path)


@pytest.mark.parametrize("term", ["kitty", "sixel"])
def test_no_flicker_and_no_second_upload(term: str, tmp_path: Path) -> None:
    root = project(tmp_path / "p", 1)
    writer = RunWriter(root)
    writer.alive()
    writer.write("state", state="running")
    for step in (0, 100):
        draw(writer, step)
    with PtyProgram([*APP, str(root)], 120, 40, term=term, env=environment(tmp_path)) as app:

        def until_sent(kind: str, key: str) -> None:
            mark = len(app.raw)
            app.press(key)
            for _ in range(100):
                if images_seen(app.raw[mark:])[kind]:
                    return
                app.listen(0.1)
            raise AssertionError(f"no picture came after {key}:\n" + "\n".join(app.screen()))

        kind = "tgp" if term == "kitty" else "sixel"
        assert app.wait_text("tokens") is not None
        until_sent(kind, "5")
        until_sent(kind, "f")  # the base
        app.press("f", 0.5)
        app.listen(0.5)
        mark = len(app.raw)
        app.press("f", 0.5)
        again = images_seen(app.raw[mark:])
        if term == "kitty":
            assert again["tgp"] == 0 and again["tgp_placeholder_cells"] > 0, again
        else:
            assert again["sixel"] == 1, again
        app.settle(1.0, 10.0)
        mark = len(app.raw)
        draw(writer, 200)
        for _ in range(100):
            if any(line.startswith("│ A base") and " 200 " in line for line in app.screen()):
                break
            app.listen(0.1)
        else:
            raise AssertionError("the new step did not come:\n" + "\n".join(app.screen()))
        app.listen(1.0)
        after = images_seen(app.raw[mark:])
        assert after["tgp"] == after["sixel"] == after["tgp_placeholder_cells"] == 0, after
        app.press("ctrl+q", 0.5)
