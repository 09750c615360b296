"""Captioners see what is trained on: the picture turned, mirrored and cropped as it was chosen by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.describe import Question
from loratui.caption.engine import Engine
from loratui.caption.plan import read_manifest, write_manifest
from loratui.caption.settings import CaptionSettings
from loratui.caption.start import prepare_captions
from loratui.dataset.framing import PLAIN, Frame, read_frame
from loratui.dataset.pixels import open_rgb, turned
from loratui.project.framing import set_frames
from loratui.project.history import History
from loratui.project.project import Project

FRAME = Frame(90, True, (0.0, 0.25, 0.5, 1.0))


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_run_describes_the_framed_picture(tmp_path: Path) -> None:
    """The frame is frozen in the manifest of the run, and what the captioner gets is cut by it."""
    made: Project = kit.project(tmp_path / "p", 3)
    first = sorted((made.root / "dataset").glob("*.png"))[0]
    set_frames(History(made.root), {first: FRAME})
    plan = prepare_captions(Project.open(made.root), [f"wd={kit.wd(tmp_path / 'wd')}"])
    write_manifest(tmp_path, plan.pictures)
    pictures = read_manifest(tmp_path)
    assert pictures == plan.pictures
    frames = {p.path.name: p.frame for p in pictures}
    assert frames[first.name] == FRAME and list(frames.values()).count(PLAIN) == 2
    seen: list[Any] = []
    engine = Engine.__new__(Engine)
    engine.captioners = {"x": type("C", (), {"prepare": lambda self, image: seen.append(image)})()}
    for picture in pictures:
        assert not engine._prepare(picture).problem
    by_name = dict(zip(frames, seen, strict=True))
    whole = turned(open_rgb(first), FRAME)
    width, height = whole.size
    part = whole.crop((0, round(0.25 * height), round(0.5 * width), height))
    assert by_name[first.name].tobytes() == part.tobytes() and part.size != whole.size
    other = next(name for name in frames if name != first.name)
    assert by_name[other].tobytes() == open_rgb(first.with_name(other)).tobytes()


def test_a_question_about_one_picture_carries_its_frame() -> None:
    question = Question(Path("a.png"), CaptionSettings(), (), frame=FRAME)
    assert read_frame(question.as_json()["frame"]) == FRAME
    assert read_frame(Question(Path("a.png"), CaptionSettings(), ()).as_json()["frame"]) == PLAIN
