"""`loratui import` of all it takes: what was taken, changed and left is said, nothing lands elsewhere."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratui.cli import main
from loratui.project import Project


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def png(level: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (level, 80, 160)).save(data, "PNG")
    return data.getvalue()


def fill(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def zipped(files: dict[str, bytes | str], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def tarred(files: dict[str, bytes | str], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, data in files.items():
            raw = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))
    return path


PLAIN: dict[str, bytes | str] = {
    "a.png": png(1),
    "a.txt": "a cat\n",
    "deep/b.png": png(2),
    "deep/b.caption": "a dog",
    "notes.md": "x",
    "lonely.txt": "of no picture",
}
KOHYA: dict[str, bytes | str] = {
    "3_sks cat/a.png": png(1),
    "3_sks cat/a.txt": "a cat\n",
    "3_sks cat/b.png": png(2),
}
ROWS = [
    {"file_name": "a.png", "text": "a cat"},
    {"file_name": "deep/b.png", "text": "a dog"},
    {"file_name": "gone.png", "text": "x"},
    {"file_name": "../out.png", "text": "x"},
]
IMAGEFOLDER: dict[str, bytes | str] = {
    "metadata.jsonl": "\n".join(map(json.dumps, ROWS)),
    "a.png": png(1),
    "deep/b.png": png(2),
    "c.png": png(3),
}
AS_CSV: dict[str, bytes | str] = {
    **{k: v for k, v in IMAGEFOLDER.items() if k != "metadata.jsonl"},
    "metadata.csv": 'file_name,text\na.png,"a cat"\ndeep/b.png,a dog\n',
}
TOML = """
[general]
caption_extension = ".txt"
[[datasets]]
resolution = 512
[[datasets.subsets]]
image_dir = "cats"
num_repeats = 4
class_tokens = "sks cat"
odd_key = 1
[[datasets.subsets]]
image_dir = "nowhere"
"""
KOHYA_TOML: dict[str, bytes | str] = {
    "set.toml": TOML,
    "cats/a.png": png(1),
    "cats/a.txt": "a cat\n",
    "cats/b.png": png(2),
}
KOHYA_JSON: dict[str, bytes | str] = {
    "meta.json": json.dumps({"a": {"caption": "a cat", "tags": "hat"}, "gone": {"caption": "x"}}),
    "a.png": png(1),
}


def folder(files: dict[str, bytes | str], path: Path) -> Path:
    return fill(path.with_suffix(""), files)


def wrapped(files: dict[str, bytes | str], path: Path) -> Path:
    return zipped({f"my set/{name}": data for name, data in files.items()}, path)


Make = Callable[[dict[str, bytes | str], Path], Path]
HOW: dict[str, tuple[Make, str]] = {
    "folder": (folder, "in.d"),
    "zip": (zipped, "in.zip"),
    "tar": (tarred, "in.tar.gz"),
    "wrapped zip": (wrapped, "wrapped.zip"),
}


class Importer:
    """A project, and what an import made of it."""

    def __init__(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = tmp_path / "p"
        (self.root / "dataset").mkdir(parents=True)
        Project.create(self.root, "demo", "robot", preset="demo")
        self._capsys = capsys

    def take(self, source: Path) -> dict[str, Any]:
        before = sorted(p for p in source.rglob("*")) if source.is_dir() else source.read_bytes()
        assert main(["import", str(source), str(self.root), "--json"]) == 0
        after = sorted(p for p in source.rglob("*")) if source.is_dir() else source.read_bytes()
        assert before == after, "the source was changed"
        return dict(json.loads(self._capsys.readouterr().out))

    def captions(self) -> dict[str, str]:
        """Name of each picture -> caption, over all sources."""
        assert main(["query", str(self.root), "--json"]) == 0
        self._capsys.readouterr()
        found = Project.open(self.root).scan()
        return {p.path.name: p.caption for p in found.pictures}

    def repeats(self) -> set[int]:
        return {p.repeats for p in Project.open(self.root).scan().pictures}


@pytest.fixture
def importer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Importer:
    return Importer(tmp_path, capsys)


def codes(report: dict[str, Any]) -> set[str]:
    return {p["code"] for p in report["problems"]}


@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
def test_plain(importer: Importer, tmp_path: Path, how: str) -> None:
    """Pictures with both kinds of captions, deep too; other files are left, and counted."""
    make, name = HOW[how]
    report = importer.take(make(PLAIN, tmp_path / name))
    assert (report["images"], report["captions"], report["left"]) == (2, 2, 2)
    assert importer.captions() == {"a.png": "a cat", "b.png": "a dog"}
    again = importer.take(make(PLAIN, tmp_path / name))
    assert (again["images"], again["present"]) == (0, 2)


@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
def test_kohya_folders(importer: Importer, tmp_path: Path, how: str) -> None:
    make, name = HOW[how]
    report = importer.take(make(KOHYA, tmp_path / name))
    assert (report["images"], report["captions"], report["layout"]) == (2, 1, "kohya-folders")
    assert importer.captions() == {"a.png": "a cat", "b.png": "sks cat"} and importer.repeats() == {3}


@pytest.mark.parametrize("files", [IMAGEFOLDER, AS_CSV], ids=["jsonl", "csv"])
@pytest.mark.parametrize("how", HOW)
def test_imagefolder(importer: Importer, tmp_path: Path, how: str, files: dict[str, bytes | str]) -> None:
    """Captions of the list become sidecars; rows that lead nowhere or elsewhere are named with their line."""
    (tmp_path / "out.png").write_bytes(png(9))
    make, name = HOW[how]
    report = importer.take(make(files, tmp_path / name))
    assert (report["images"], report["captions"], report["layout"]) == (3, 2, "imagefolder")
    assert importer.captions() == {"a.png": "a cat", "b.png": "a dog", "c.png": ""}
    assert "not-listed" in codes(report)
    if files is IMAGEFOLDER:
        assert {"missing-file", "outside"} <= codes(report)
        assert any(p["where"] == "metadata.jsonl:3" for p in report["problems"])
    assert not list(tmp_path.rglob(".loratui-import-*"))


@pytest.mark.parametrize("how", HOW)
def test_kohya_toml(importer: Importer, tmp_path: Path, how: str) -> None:
    """Repeats and class tokens are kept; an unknown key and a missing folder are named."""
    make, name = HOW[how]
    source = make(KOHYA_TOML, tmp_path / name)
    report = importer.take(source / "set.toml" if source.is_dir() else source)
    assert (report["images"], report["captions"], report["layout"]) == (2, 1, "kohya-toml")
    assert importer.captions() == {"a.png": "a cat", "b.png": "sks cat"} and importer.repeats() == {4}
    assert {"unknown-key", "missing-folder"} <= codes(report)


@pytest.mark.parametrize("how", HOW)
def test_kohya_json(importer: Importer, tmp_path: Path, how: str) -> None:
    make, name = HOW[how]
    source = make(KOHYA_JSON, tmp_path / name)
    report = importer.take(source / "meta.json" if source.is_dir() else source)
    assert (report["images"], report["captions"], report["layout"]) == (1, 1, "kohya-json")
    assert importer.captions() == {"a.png": "a cat, hat"} and "missing-file" in codes(report)


def test_the_words(importer: Importer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What people read: taken, read as what, changed, left."""
    other = {**IMAGEFOLDER, "a.png": png(200)}
    importer.take(zipped(IMAGEFOLDER, tmp_path / "one.zip"))
    assert main(["import", str(zipped(other, tmp_path / "two.zip")), str(importer.root)]) == 0
    said = capsys.readouterr()
    assert "read as an imagefolder of Hugging Face" in said.out
    assert "metadata.jsonl:3" in said.out + said.err and "gone.png" in said.out + said.err
    assert main(["import", str(folder(PLAIN, tmp_path / "in.d")), str(importer.root)]) == 0
    assert "2 other files were left" in capsys.readouterr().out


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_list_in_a_hostile_archive_writes_nothing_elsewhere(
    importer: Importer, tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths out of the folder in names and in the list; a broken archive leaves nothing behind."""
    files = {**IMAGEFOLDER, "../escaped.png": png(7), "/tmp/escaped-loratui.png": png(7)}
    source = make(files, tmp_path / ("x.zip" if make is zipped else "x.tar.gz"))
    outside = {p for p in tmp_path.rglob("*") if importer.root not in p.parents}
    report = importer.take(source)
    assert report["images"] == 3 and "archive-entry" in codes(report)
    assert {p for p in tmp_path.rglob("*") if importer.root not in p.parents} == outside
    assert not Path("/tmp/escaped-loratui.png").exists()
    data = source.read_bytes()
    broken = source.with_name("broken" + "".join(source.suffixes))
    broken.write_bytes(data[: len(data) // 2])
    assert main(["import", str(broken), str(importer.root)]) == 2
    assert "Traceback" not in capsys.readouterr().err
