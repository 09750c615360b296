"""The bundled captioners: small, said to be right by their evaluation, and right on scenes measured here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loratui import demo
from loratui.cli.shell import run as loratui
from loratui.project.demo import UNCAPTIONED, make_demo

TOOLS = Path(__file__).parents[2] / "tools"
FACETS = ("shape", "colour", "background")
MB = 1_000_000


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch):
    """The script that made them: it draws scenes of combinations that were never trained on."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import train_captioners

    yield train_captioners
    for name in ("captions", "figures", "scenes", "mascot", "palette", "train_captioners"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "most"), [("blip", 5 * MB), ("clip", 4 * MB)])
def test_they_are_within_their_budget(name: str, most: int) -> None:
    folder = demo.captioners_path() / name
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= most
    assert not [p for p in folder.rglob("*") if p.suffix in {".bin", ".pt", ".pth", ".pkl"}]


def test_the_evaluation_that_came_with_them_reaches_its_aim() -> None:
    found = json.loads((demo.captioners_path() / "EVALUATION.json").read_text())
    assert found["held_out_scenes"] == 200
    for name in ("blip", "clip"):
        assert all(found[name]["right"][facet] >= 0.95 for facet in FACETS), found[name]


@pytest.mark.parametrize("name", ["blip", "clip"])
def test_they_are_right_about_scenes_they_never_saw(name: str, training) -> None:
    scenes = training.held_out_scenes(40, seed=77)
    right = training.shares(scenes, training.ask(name, demo.captioners_path() / name, scenes))
    # 40 scenes of a share of 0.95 give 0.85 or less once in a hundred times
    assert all(right[facet] >= 0.85 for facet in FACETS), right


@pytest.mark.parametrize(
    ("name", "words"), [("demo-blip", "a {} background"), ("demo-clip", "{} background")]
)
def test_the_uncaptioned_copy_gets_true_captions_offline(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{part}", str(tmp_path / part.lower()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    copy = make_demo(tmp_path / "demo").root / UNCAPTIONED
    assert len(list((copy / "dataset").glob("*.png"))) == 16 and not list((copy / "dataset").glob("*.txt"))
    assert loratui(["caption", str(copy), "--model", name, "--wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == 16
    wrong = []
    for path in sorted((copy / "dataset").glob("*.txt")):
        truth = (demo.pictures_path() / path.name).read_text().strip().rpartition(", ")[2].split()[0]
        said = path.read_text()
        if "robot" not in said or words.format(truth) not in said:
            wrong.append((path.name, truth, said))
    assert len(wrong) <= 1, wrong
