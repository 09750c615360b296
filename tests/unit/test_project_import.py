"""Imports: folders and archives are copied, nothing is overwritten, nothing is written outside."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from loratui.errors import DatasetError
from loratui.project import Project
from loratui.project.importing import import_into, import_pictures


def png(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, "PNG")
    return file.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


GOOD = {"a.txt": b"a cat", "a.png": png(), "10_sks cat/b.png": png("blue"), "10_sks cat/b.txt": b"b"}
NOISE = {"notes.md": b"x", ".hidden.png": png(), "__MACOSX/a.png": png(), "lonely.txt": b"no picture"}


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_archives_of_every_kind(tmp_path: Path, kind: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    report = import_pictures(make(tmp_path / f"x.{kind}", GOOD | NOISE), tmp_path / "out")
    assert tree(tmp_path / "out") == GOOD
    assert (report.images, report.captions, report.problems) == (2, 2, [])


def test_a_folder_is_copied_and_left_as_it_was(tmp_path: Path) -> None:
    files = {
        "a.png": png(),
        "a.caption": b"x",
        "deep/er/b.png": png("blue"),
        "deep/er/b.txt": b"b",
        "notes.md": b"-",
    }
    source = fill(tmp_path / "in", files)
    report = import_pictures(source, tmp_path / "out")
    assert tree(source) == files
    assert tree(tmp_path / "out") == {k: v for k, v in files.items() if k != "notes.md"}
    assert (report.images, report.captions) == (2, 2)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a.png": png(), "a.txt": b"mine"})
    source = fill(tmp_path / "in", {"a.png": png("blue"), "a.txt": b"theirs"})
    report = import_pictures(source, out)
    assert (report.images, report.renamed) == (1, 1)
    assert tree(out) == {"a.png": png(), "a.txt": b"mine", "a-2.png": png("blue"), "a-2.txt": b"theirs"}
    again = import_pictures(source, out)
    assert (again.images, again.present, again.renamed) == (0, 1, 0)
    assert len(tree(out)) == 4


def test_a_caption_that_is_there_is_kept(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", {"a.png": png(), "a.txt": b"edited by hand"})
    report = import_pictures(fill(tmp_path / "in", {"a.png": png(), "a.txt": b"old"}), out)
    assert [p.code for p in report.problems] == ["caption-kept"]
    assert (out / "a.txt").read_bytes() == b"edited by hand"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "/abs/evil.png",
        "a/../../evil.png",
        "..\\evil.png",
        "C:\\evil.png",
        "C:/evil.png",
        "x" * 300 + ".png",
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_no_entry_leaves_the_target(tmp_path: Path, kind: str, name: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    archive = make(tmp_path / f"x.{kind}", {name: png(), "good.png": png()})
    report = import_pictures(archive, tmp_path / "deep" / "out")
    assert len(report.problems) == 1
    assert report.problems[0].severity == "error"
    assert set(tree(tmp_path)) == {f"x.{kind}", "deep/out/good.png"}
    assert not Path("/abs/evil.png").exists()


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        kinds = {
            "link": tarfile.SYMTYPE,
            "hard": tarfile.LNKTYPE,
            "dev": tarfile.CHRTYPE,
            "fifo": tarfile.FIFOTYPE,
        }
        for name, kind in kinds.items():
            info = tarfile.TarInfo(f"{name}.png")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = 0o120777 << 16
        zipped.writestr(entry, str(secret))
    for name, count in (("x.tar", 4), ("x.zip", 1)):
        report = import_pictures(tmp_path / name, tmp_path / "out")
        assert [p.code for p in report.problems] == ["not-a-file"] * count
    assert not (tmp_path / "out").exists() or tree(tmp_path / "out") == {}


def test_a_link_in_the_target_is_not_followed_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out" / "sub").symlink_to(outside)
    report = import_pictures(make_zip(tmp_path / "x.zip", {"sub/a.png": png()}), tmp_path / "out")
    assert [p.code for p in report.problems] == ["outside"]
    assert tree(outside) == {}


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    report = import_pictures(make_zip(tmp_path / "x.zip", {"bomb.png": b"\0" * 50_000_000}), tmp_path / "out")
    assert [p.code for p in report.problems] == ["too-large"]
    assert not (tmp_path / "out").exists() or tree(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tgz", "x.rar"])
def test_what_is_no_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not an archive at all")
    with pytest.raises(DatasetError) as caught:
        import_pictures(tmp_path / name, tmp_path / "out")
    assert name in caught.value.message
    with pytest.raises(DatasetError, match="does not exist"):
        import_pictures(tmp_path / "none", tmp_path / "out")


def test_a_damaged_zip_keeps_what_was_whole(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"a.png": png(), "b.png": png("blue")})
    data = bytearray(path.read_bytes())
    data[45] ^= 0xFF  # inside the first entry's data
    path.write_bytes(data)
    report = import_pictures(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {"b.png": png("blue")}
    assert [p.code for p in report.problems] == ["damaged"]


def test_kohya_folders_and_loose_pictures_are_not_mixed(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", "demo", "x", fill(tmp_path / "in", {"loose.png": png()}))
    kohya = fill(tmp_path / "kohya", {"10_sks cat/a.png": png("blue")})
    report, target = import_into(project, kohya)
    assert report.images == 1
    assert target == project.root / "dataset-kohya"
    rows = {p.rel: p.repeats for p in Project.open(project.root).scan().pictures}
    assert rows == {"dataset/loose.png": 1, "dataset-kohya/10_sks cat/a.png": 10}
    more, again = import_into(Project.open(project.root), fill(tmp_path / "more", {"m.png": png("green")}))
    assert again == project.root / "dataset"
    assert more.images == 1


def test_a_tar_that_breaks_off_keeps_what_came_before_with_captions(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"a.png": png(), "a.txt": b"a cat", "b.png": png("blue")})
    path.write_bytes(path.read_bytes()[: 512 * 5 + 40])
    report = import_pictures(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.png": png(), "a.txt": b"a cat"}
    assert {p.code for p in report.problems} == {"damaged"}
