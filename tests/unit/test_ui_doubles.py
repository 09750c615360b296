"""Near-duplicates side by side, by keys: the proposal, another choice, the trash, "no duplicates", undo."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_kit import project
from PIL import Image, ImageFilter
from test_ui_dataset import Driver, quiet, room

from loratui.cli import main
from loratui.dataset.duplicates import Candidate, groups, why_kept
from loratui.ui.screens.doubles import DoublesRoom

__all__ = ["quiet"]


def noise(path: Path, seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture unlike those of other seeds."""
    import numpy as np

    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def doubled(folder: Path) -> Path:
    """Two groups, a and b, and one picture alone; a2 is larger than a1, b2 a blurred copy of b1."""
    root = project(folder, 0)
    data = root / "dataset"
    noise(data / "a1.png", 1)
    noise(data / "a2.png", 1, (192, 192))
    (data / "a1.txt").write_text("sks robot, small\n")
    noise(data / "b1.png", 2).filter(ImageFilter.GaussianBlur(3)).save(data / "b2.png")
    noise(data / "c.png", 3)
    return root


async def opened(driver: Driver, key: str = "S") -> DoublesRoom:
    await driver.press(key)
    await driver.until(lambda: isinstance(driver.app.screen, DoublesRoom) and driver.app.screen._known)
    screen = driver.app.screen
    assert isinstance(screen, DoublesRoom)
    return screen


def there(root: Path) -> list[str]:
    return sorted(p.name for p in (root / "dataset").iterdir())


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_others_go_to_the_trash_and_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    """Nothing happens by looking; `d` throws away what is not kept, `u` brings it and its group back."""
    root = doubled(tmp_path / "p")
    before = there(root)
    async with room(root, size) as driver:
        doubles = await opened(driver)
        await driver.until(lambda: "group 1 of 2" in driver.text())
        assert [Path(c.path).name for c in doubles.group.members] == ["a2.png", "a1.png"]  # type: ignore[union-attr]
        text = driver.text()
        assert "192×192" in text and "the largest" in text and "sks robot, small" in text
        assert text.count("● kept") == 1 and text.count("✖ to the trash") == 1
        await driver.press("n", "N")
        assert there(root) == before
        await driver.press("space")  # the only one that is kept cannot be given up
        assert len(doubles.kept) == 1
        await driver.press("right", "o")  # the smaller one instead
        assert {Path(p).name for p in doubles.kept} == {"a1.png"}
        await driver.press("d")
        await driver.until(lambda: there(root) == sorted(set(before) - {"a2.png"}))
        await driver.until(lambda: "group 1 of 1" in driver.text() and "b1.png" in driver.text())
        await driver.press("u")
        await driver.until(lambda: there(root) == before)
        await driver.until(lambda: "group 1 of 2" in driver.text() and "a1.png" in driver.text())


async def test_no_duplicates_is_remembered_and_taken_back(tmp_path: Path) -> None:
    """`x` dissolves a group for good, for the command line, too; `u` in the list brings it back."""
    root = doubled(tmp_path / "p")
    async with room(root) as driver:
        doubles = await opened(driver)
        await driver.press("x")
        await driver.until(lambda: len(doubles.groups) == 1)
        await driver.press("n", "x")
        await driver.until(lambda: not doubles.groups and "No two pictures here" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: driver.app.screen is driver.room)
        assert not any(row.dup for row in driver.app.library.rows)
        assert len(there(root)) == 6
        await driver.press("u")
        await driver.until(lambda: sum(bool(row.dup) for row in driver.app.library.rows) == 2)


async def test_pictures_that_are_all_different(tmp_path: Path) -> None:
    """The empty state says how it looked, and keys do no harm."""
    root = project(tmp_path / "p", 0)
    for seed in range(3):
        noise(root / "dataset" / f"{seed}.png", seed)
    async with room(root, (80, 24)) as driver:
        await opened(driver)
        await driver.until(lambda: "No two pictures here look the same" in driver.text())
        await driver.press("d", "x", "o", "space", "n", "left", "plus", "escape")
        await driver.until(lambda: driver.app.screen is driver.room)
        assert len(there(root)) == 3


async def test_a_large_group_asks_before_it_throws_away_what_is_out_of_sight(tmp_path: Path) -> None:
    """At 80 columns three are in sight; the cursor brings the others."""
    root = project(tmp_path / "p", 0)
    for number in range(5):
        noise(root / "dataset" / f"{number}.png", 7)
    async with room(root, (80, 24)) as driver:
        await opened(driver)
        await driver.until(lambda: "1 to 3 shown" in driver.text())
        await driver.press("right", "right", "right", "space")
        await driver.until(lambda: "2 to 4 shown" in driver.text() and driver.text().count("● kept") == 1)
        await driver.press("d")
        await driver.until(lambda: "3 pictures move to the trash" in driver.text())
        assert len(there(root)) == 5
        await driver.press("enter")
        await driver.until(lambda: there(root) == ["0.png", "3.png"])


def test_what_was_said_of_pictures_lapses_when_they_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line names groups, leaves out what is apart, and finds a picture that is another now."""
    from loratui.project.collection import Collection
    from loratui.project.findings import measure
    from loratui.project.project import Project

    root = doubled(tmp_path / "p")
    assert main(["audit", str(root)]) == 0
    said = capsys.readouterr().out
    assert "a2.png" in said and "b1.png" in said and said.count("[near-duplicate]") == 2
    project_ = Project.open(root)
    collection = Collection(project_, project_.resolve().data)
    collection.refresh()
    measure(collection)
    data = root / "dataset"
    collection.say_apart([data / "a1.png", data / "a2.png"])
    (group,) = collection.groups
    assert sorted(Path(c.path).name for c in group.members) == ["b1.png", "b2.png"]
    for name in ("a1.png", "a2.png"):
        noise(data / name, 2)
    collection.refresh()
    measure(collection)
    assert [len(g.members) for g in collection.groups] == [4]
    collection.close()


def test_apart_pictures_still_meet_a_third() -> None:
    """Two that were said to be different are found together when a new one looks like both."""
    one, two = (Candidate(n, 0b111, 8, 8, apart=frozenset({"s"})) for n in "ab")
    assert groups([one, two]) == []
    (found,) = groups([one, two, Candidate("c", 0b110, 9, 9)])
    assert [c.path for c in found.members] == ["c", "a", "b"] and why_kept(found) == "the largest"
    assert "first by name" in why_kept(groups([Candidate("y", 1, 8, 8), Candidate("x", 1, 8, 8)])[0])
