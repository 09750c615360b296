"""Changes by other programs where the kernel tells nobody, and which ones are nobody's business."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from app_kit import project
from hypothesis import given
from hypothesis import strategies as st

from loratui import disks
from loratui.ui import outside
from loratui.ui.app import LoratuiApp
from loratui.ui.library import Library
from loratui.ui.widgets.caption_editor import CaptionEditor


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No measuring behind the back, settings of its own."""
    monkeypatch.setattr(Library, "MEASURES", False)
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


async def test_on_a_network_disk_the_pictures_in_sight_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caption and removal are shown for rows in sight; one out of sight waits for its turn."""
    root = project(tmp_path / "p", 60)
    monkeypatch.setattr(outside, "file_system", lambda folder: "nfs4")
    monkeypatch.setattr(outside, "SLOW_S", 0.1)
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:

        async def until(test: object) -> None:
            assert callable(test)
            for _ in range(300):
                await pilot.pause(0.02)
                if test():
                    return
            raise AssertionError("it never came")

        await until(lambda: app.library.read and app.scan is not None)
        (root / "dataset" / "60.txt").write_text("out of sight\n")
        (root / "dataset" / "01.txt").write_text("a zebra\n")
        editor = app.screen.query_one(CaptionEditor)
        await until(lambda: editor.text == "a zebra")
        await until(lambda: app.library.rows[0].caption == "a zebra")
        assert app.library.rows[59].caption == ""
        await pilot.press("G")
        await until(lambda: editor.text == "out of sight")
        await until(lambda: app.library.rows[59].caption == "out of sight")
        (root / "dataset" / "59.png").unlink()
        await until(lambda: len(app.library.rows) == 59)


async def test_what_is_typed_survives_a_picture_that_is_renamed(tmp_path: Path) -> None:
    """The picture under the cursor goes while its caption is typed: the text waits for a choice."""
    root = project(tmp_path / "p", 3)
    data = root / "dataset"
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(200):
            await pilot.pause(0.02)
            if app.library.read and app.scan is not None:
                break
        await pilot.pause(0.6)  # the folders are watched
        await pilot.press("e", "!")
        for suffix in (".png", ".txt"):
            (data / f"01{suffix}").rename(data / f"99{suffix}")
        for _ in range(300):
            await pilot.pause(0.02)
            text = "\n".join(strip.text for strip in app.screen._compositor.render_strips(app.size))
            if len(app.screen_stack) > 1 and "01.png" in text:
                break
        else:
            raise AssertionError("nothing was asked")
        assert "01.png" in text and "the file is gone" in text and "picture 1!" in text
        assert not (data / "01.txt").exists()
        assert (data / "99.txt").read_text() == "sks robot, picture 1\n"


async def test_a_disk_that_cannot_be_watched_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no watches left: the app says it and looks now and then."""
    import watchfiles

    def refused(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached.")

    root = project(tmp_path / "p", 3)
    monkeypatch.setattr(watchfiles, "watch", refused)
    monkeypatch.setattr(outside, "SLOW_S", 0.1)
    app = LoratuiApp(root)
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(200):
            await pilot.pause(0.02)
            if any("cannot be watched" in n.message for n in app._notifications):
                break
        else:
            raise AssertionError("nothing was said")
        (root / "dataset" / "01.txt").write_text("a zebra\n")
        for _ in range(200):
            await asyncio.sleep(0.02)
            if app.library.rows[0].caption == "a zebra":
                return
    raise AssertionError("never looked at")


def test_what_is_nobodys_business(tmp_path: Path) -> None:
    """Hidden and temporary files, runs, the cache; not the history, not a folder that is hidden itself."""
    root, data = tmp_path / ".p", tmp_path / ".p" / "dataset"
    log = root / ".loratui" / "history" / "log.jsonl"
    files = {
        log: True,
        data / "a.txt": True,
        data / "sub" / "b.png": True,
        data / ".a.txt.swp": False,
        data / ".cache" / "b.png": False,
        root / "runs" / "r" / "sample.png": False,
        root / ".loratui" / "cache" / "thumbnails" / "a.jpg": False,
        log.with_name("lock"): False,
        tmp_path / "elsewhere.txt": False,
    }
    kept = outside._ours(set(files), [data, root, log.parent], root)
    assert kept - {log.with_name("lock")} == {f for f, wanted in files.items() if wanted}


@given(
    st.lists(
        st.tuples(st.sampled_from(["/", "/data", "/data/in", "/da"]), st.sampled_from("abc")), max_size=5
    )
)
def test_the_deepest_mount_and_the_last_on_it_counts(mounts: list[tuple[str, str]]) -> None:
    """Judged against the longest matching point; a point that is mounted over counts as what covers it."""
    import psutil

    class Part:
        def __init__(self, mountpoint: str, fstype: str) -> None:
            self.mountpoint, self.fstype = mountpoint, fstype

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "disk_partitions", lambda all: [Part(*m) for m in mounts])
        found = disks.file_system(Path("/data/in/pictures"))
    fitting = [m for m in mounts if m[0] != "/da"]
    deepest = max((len(point) for point, _ in fitting), default=0)
    wanted = [kind for point, kind in fitting if len(point) == deepest]
    assert found == (wanted[-1] if wanted else "")
    assert disks.is_network("nfs4") and disks.is_network("fuse.sshfs") and not disks.is_network("ext4")
    assert not disks.is_network("fuseblk") and not disks.is_network("overlay")
