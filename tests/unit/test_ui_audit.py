"""The audit by keys: what it lists, where it leads, what it mends, and that undo takes it back."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_kit import project
from test_ui_dataset import Driver, caption, quiet, room

from loratui.cli import main
from loratui.ui.screens.audit import AuditDialog

__all__ = ["quiet"]


async def opened(driver: Driver) -> AuditDialog:
    """`A`, and the findings are there."""
    await driver.press("A")
    await driver.until(lambda: isinstance(driver.app.screen, AuditDialog) and driver.app.screen.troubles)
    screen = driver.app.screen
    assert isinstance(screen, AuditDialog)
    return screen


async def move_to(driver: Driver, dialog: AuditDialog, code: str) -> None:
    codes = [t.code for t in dialog.troubles]
    await driver.press(*["down"] * codes.index(code))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_finding_is_mended_after_its_diff_and_undone(tmp_path: Path, size: tuple[int, int]) -> None:
    """The trigger missing in two: `f` shows the diff, enter does it, `u` takes it back."""
    root = project(tmp_path / "p", 6)
    (root / "dataset" / "01.txt").write_text("hat, sky\n")
    (root / "dataset" / "02.txt").write_text("tree, lawn\r\n", newline="")
    before = {n: (root / "dataset" / f"{n}.txt").read_bytes() for n in ("01", "02", "04")}
    async with room(root, size) as driver:
        dialog = await opened(driver)
        order = {"error": 0, "warning": 1, "info": 2}
        ranks = [order[t.severity] for t in dialog.troubles]
        assert ranks == sorted(ranks)
        await move_to(driver, dialog, "trigger-missing")
        await driver.until(lambda: "lack the trigger" in driver.text() and "fixes, the diff" in driver.text())
        await driver.press("f")
        await driver.until(lambda: "hat, sky" in driver.text() and "2 to change" in driver.text())
        assert caption(root, "01") == "hat, sky\n"
        await driver.press("enter")
        await driver.until(lambda: caption(root, "02").startswith("sks robot, tree"))
        assert (root / "dataset" / "04.txt").read_bytes() == before["04"]
        await driver.until(lambda: driver.app.screen is driver.room)
        await driver.press("u")
        names = ("01", "02", "04")
        await driver.until(lambda: {n: (root / "dataset" / f"{n}.txt").read_bytes() for n in names} == before)


async def test_enter_shows_the_pictures_of_a_finding(tmp_path: Path) -> None:
    """The filter of the code, the cursor on the first; and no fix where none is safe."""
    root = project(tmp_path / "p", 6)
    async with room(root) as driver:
        dialog = await opened(driver)
        await move_to(driver, dialog, "missing-caption")
        await driver.until(lambda: "No fix is safe" in driver.text())
        await driver.press("f")
        assert driver.app.screen is dialog
        await driver.press("enter")
        await driver.until(lambda: driver.names == ["03.png", "06.png"])
        assert driver.app.library.filter == "problem:missing-caption"
        assert driver.room.current is not None and driver.room.current.name == "03.png"


def test_the_command_line_mends_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run writes nothing, a run mends only the offenders, what has no safe fix says so."""
    root = project(tmp_path / "p", 6)
    (root / "dataset" / "01.txt").write_text("sks robot, hat, sky, hat\n")
    others = caption(root, "02")
    assert main(["audit", str(root), "--captions", "--fix", "duplicate-tags", "--dry-run"]) == 0
    assert caption(root, "01") == "sks robot, hat, sky, hat\n"
    assert main(["audit", str(root), "--captions", "--fix", "duplicate-tags"]) == 0
    assert caption(root, "01") == "sks robot, hat, sky\n" and caption(root, "02") == others
    capsys.readouterr()
    assert main(["audit", str(root), "--captions", "--fix", "duplicate-tags"]) != 0
    assert "finds no duplicate-tags" in capsys.readouterr().err
    assert main(["audit", str(root), "--captions", "--fix", "missing-caption"]) != 0
    assert "no safe fix" in capsys.readouterr().err
    assert main(["undo", str(root)]) == 0
    assert caption(root, "01") == "sks robot, hat, sky, hat\n"
