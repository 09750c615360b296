"""`loratui frame`: turns, crops and masks from scripts: notes that undo takes back, no picture is touched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from app_kit import picture
from app_kit import project as make_project
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from loratui.cli import main
from loratui.dataset.framing import Frame
from loratui.dataset.reframing import Area, Reframe, area_text, parse_area, parse_reframe
from loratui.errors import DatasetError
from loratui.project.framing import framing


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures: two as usual, one small, one with an alpha channel."""
    folder = make_project(tmp_path / "p", 4)
    picture(folder / "dataset" / "03.png", (40, 30), 3)
    Image.new("RGBA", (96, 64), (9, 9, 9, 90)).save(folder / "dataset" / "04.png")
    return folder


def ask(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def frames(root: Path) -> dict[str, Frame]:
    return {path.name: frame for path, frame in framing(root)[0].items()}


def sums(root: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (root / "dataset").iterdir()}


def test_a_turn_and_a_crop_are_one_step(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sums(root)
    what = ("frame", root, "--where", "width:96", "--turn", 90, "--crop", "0,25%,64,50%")
    dry = ask(capsys, *what, "--dry-run")
    assert dry["changed"] == 3 and dry["entry"] == 0 and frames(root) == {}
    done = ask(capsys, *what)
    assert done["entry"] > 0 and done["edit"] == "frame turn 90 crop 0,25%,64,50%"
    assert {**dry, "dry_run": False, "entry": done["entry"]} == done
    wanted = Frame(90, False, (0.0, 0.25, 1.0, 0.75))
    assert frames(root) == dict.fromkeys(("01.png", "02.png", "04.png"), wanted)
    assert done["changes"][0]["after"] == wanted.as_json() and done["changes"][0]["bucket"] == [64, 64]
    assert ask(capsys, "query", root, "framed:yes")["count"] == 3
    assert ask(capsys, "query", root, "framed:no")["paths"] == ["dataset/03.png"]
    # the trainer's scan counts them, and in the bucket of their crop
    scan = ask(capsys, "scan", root)
    assert scan["framed"] == 3
    assert {(b["width"], b["height"]): b["images"] for b in scan["buckets"]}[64, 64] == 4
    ask(capsys, "frame", root, "--where", "01", "--mirror")
    assert frames(root)["01.png"] == wanted.mirrored()
    ask(capsys, "undo", root, "--steps", 2)
    assert frames(root) == {} and sums(root) == before
    ask(capsys, "redo", root)
    assert frames(root)["02.png"] == wanted
    ask(capsys, "frame", root, "--crop", "auto")
    assert frames(root) == {name: Frame(90) for name in ("01.png", "02.png", "04.png")}
    ask(capsys, "frame", root, "--reset")
    assert frames(root) == {}
    assert ask(capsys, "frame", root, "--reset")["left_alone"][0]["reason"] == "already so"


def test_a_crop_that_enlarges_is_a_finding_of_the_audit(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def small() -> list[str]:
        found = ask(capsys, "audit", root)["findings"]
        return [path for f in found if f["code"] == "small-image" for path in f["paths"]]

    before = small()
    ask(capsys, "frame", root, "--where", "01", "--crop", "0,0,20%,20%")
    assert "dataset/01.png" not in before and small() == ["dataset/01.png", *before]


def test_what_does_not_fit_is_left_alone_and_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "frame", root, "--crop", "0,0,60,60", "--alpha-mask", "on", code=1)
    left = {one["path"]: one["reason"] for one in found["left_alone"]}
    assert left == {"dataset/03.png": "the crop reaches beyond its 40x30 px"}
    changed = {one["path"]: one["alpha_mask"] for one in found["changes"]}
    assert changed == {"dataset/01.png": None, "dataset/02.png": None, "dataset/04.png": True}
    assert framing(root)[1] == {root / "dataset" / "04.png"}
    found = ask(capsys, "frame", root, "--alpha-mask", "on", "--where", "01", code=1)
    assert found["left_alone"][0]["reason"] == "has no alpha channel"
    ask(capsys, "undo", root)
    assert framing(root) == ({}, frozenset())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((), "Nothing is asked for"),
        (("--crop", "1,2,3"), "cannot be read"),
        (("--crop", "a,b,c,d"), "cannot be read"),
        (("--turn", "45"), "--turn"),
        (("--where", "widht:>5", "--mirror"), "widht"),
    ],
)
def test_a_wrong_wish_is_one_clear_error(
    root: Path, capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...], words: str
) -> None:
    assert main(["frame", str(root), *wrong]) == 2
    said = capsys.readouterr()
    assert words in said.err and "Traceback" not in said.err and frames(root) == {}


lengths = st.one_of(
    st.tuples(st.integers(0, 9000).map(float), st.just(False)),
    st.tuples(st.integers(0, 1000).map(lambda n: n / 1000), st.just(True)),
)
areas = st.builds(Area, lengths, lengths, lengths, lengths)


@given(areas)
def test_an_area_in_words_is_the_same_area(area: Area) -> None:
    again = parse_area(area_text(area))
    for one, other in zip(
        (area.left, area.top, area.width, area.height),
        (again.left, again.top, again.width, again.height),
        strict=True,
    ):
        assert one[1] == other[1] and one[0] == pytest.approx(other[0])


@given(areas, st.integers(1, 6000), st.integers(1, 6000))
def test_an_area_lies_in_the_picture_or_is_refused(area: Area, width: int, height: int) -> None:
    try:
        left, top, right, bottom = area.box(width, height)
    except DatasetError as error:
        assert "the crop" in error.message
    else:
        assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1


@given(
    st.builds(
        Reframe,
        reset=st.booleans(),
        turn=st.sampled_from([0, 90, 180, 270]),
        mirror=st.booleans(),
        automatic=st.booleans(),
        alpha=st.sampled_from([None, True, False]),
    ).filter(lambda wish: not wish.empty)
)
def test_a_wish_in_words_is_the_same_wish(wish: Reframe) -> None:
    assert parse_reframe(wish.describe().split()[1:]) == wish


def test_four_quarters_are_none() -> None:
    frame = Frame(90, True, (0.1, 0.2, 0.5, 0.6))
    once = Reframe(turn=90)
    for _ in range(4):
        frame = once.frame(96, 64, frame)
    assert frame == Frame(90, True, (0.1, 0.2, 0.5, 0.6))
    assert Reframe(turn=270).frame(96, 64, once.frame(96, 64, frame)) == frame
    assert Reframe(reset=True, mirror=True).frame(96, 64, frame) == Frame(0, True)
