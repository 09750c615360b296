"""Imports of all layouts and exports to them: what is read, where it goes, and that it comes back."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from loratui.dataset.copying import Placed, copy_in, import_any, without_captions
from loratui.dataset.exports import FORMATS, ExportPicture, export
from loratui.dataset.imports import detect, read
from loratui.dataset.masks import Mask
from loratui.dataset.scan import Source, scan
from loratui.errors import DatasetError


def make(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def tree(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes().decode("latin-1")
        for p in folder.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return tmp_path / "src"


def test_a_plain_folder(src: Path, tmp_path: Path) -> None:
    make(
        src,
        {"a.png": "A", "a.txt": b"caf\xe9\r\n", "x/b.jpg": "B", "x/b.caption": "cap", "a-masklabel.png": "M"},
    )
    make(src, {"notes.md": "no", "Thumbs.db": "no", ".hidden.png": "no"})
    report = import_any(src, tmp_path / "in")
    wanted = {
        "a.png": "A",
        "a.txt": "caf\xe9\r\n",
        "a-masklabel.png": "M",
        "x/b.jpg": "B",
        "x/b.caption": "cap",
    }
    assert tree(tmp_path / "in") == wanted
    assert (report.layout, report.images, report.captions, report.masks) == ("folder", 2, 2, 1)
    assert report.sources == (Placed(tmp_path / "in"),)
    again = import_any(src, tmp_path / "in")
    assert (again.images, again.present) == (0, 2) and tree(tmp_path / "in") == wanted


def test_nothing_is_overwritten_and_captions_never_mix(src: Path, tmp_path: Path) -> None:
    make(src, {"a.png": "new", "a.txt": "new cap", "b.png": "new b"})
    make(tmp_path / "in", {"a.png": "old", "a.txt": "old cap", "b.txt": "an orphan caption"})
    report = import_any(src, tmp_path / "in")
    assert tree(tmp_path / "in") == {
        "a.png": "old",
        "a.txt": "old cap",
        "a-2.png": "new",
        "a-2.txt": "new cap",
        "b.txt": "an orphan caption",
        "b-2.png": "new b",
    }
    assert report.renamed == 2


def test_kohya_folders(src: Path, tmp_path: Path) -> None:
    make(
        src, {"10_sks dog/a.png": "A", "10_sks dog/sub/deep.png": "no", "1_/b.png": "B", "other/c.png": "no"}
    )
    make(src, {"0_zero/d.png": "no", "x_1/e.png": "no"})
    found = read(src)
    assert [(p.name, p.repeats, p.caption, len(p.items)) for p in found.parts] == [
        ("1_", 1, "", 1),
        ("10_sks dog", 10, "sks dog", 1),
    ]
    assert sorted(p.path for p in found.problems) == ["0_zero", "other", "x_1"]
    report = copy_in(found, tmp_path / "in")
    assert sorted(tree(tmp_path / "in")) == ["10_sks dog/a.png", "1_/b.png"]
    assert report.sources == (Placed(tmp_path / "in"),)


TOML = """
[general]
caption_extension = ".cap"
enable_bucket = true
shuffle_caption = true
nonsense = 1

[[datasets]]
resolution = [512, 768]

  [[datasets.subsets]]
  image_dir = "woman"
  num_repeats = 5
  class_tokens = "ohwx woman"
  keep_tokens = 2

  [[datasets.subsets]]
  image_dir = "../reg"
  is_reg = true

  [[datasets.subsets]]
  image_dir = "gone"
"""


def test_a_kohya_toml(tmp_path: Path) -> None:
    src = tmp_path / "data"
    make(src, {"set.toml": TOML, "woman/a.png": "A", "woman/a.cap": "from cap", "woman/b.png": "B"})
    make(tmp_path / "reg", {"r.png": "R"})
    found = read(src / "set.toml")
    woman, reg = found.parts
    assert (woman.name, woman.repeats, woman.caption, woman.regularisation) == (
        "woman",
        5,
        "ohwx woman",
        False,
    )
    assert woman.settings == {"shuffle_caption": True, "keep_tokens": 2}
    assert [i.caption for i in woman.items] == ["from cap", None]
    assert reg.regularisation and found.settings == {"enable_bucket": True, "resolution": [512, 768]}
    assert [(p.code, p.where) for p in found.problems] == [
        ("unknown-key", "set.toml:6"),
        ("missing-folder", "set.toml"),
    ]
    report = copy_in(found, tmp_path / "in")
    assert tree(tmp_path / "in") == {"woman/a.png": "A", "woman/a.txt": "from cap\n", "woman/b.png": "B"}
    assert report.sources == (
        Placed(tmp_path / "in" / "woman", 5, "ohwx woman"),
        Placed(tmp_path / "in-reg" / "reg", 1, "", True),
    )


@pytest.mark.parametrize(
    "text", ["x = [", "a = 1", "datasets = 3", "[[datasets]]\nsubsets = 3\n", "datasets = [1]"]
)
def test_odd_tomls_are_no_crash(src: Path, text: str) -> None:
    make(src, {"x.toml": text})
    try:
        assert read(src / "x.toml").images == 0
    except DatasetError as error:
        assert "x.toml" in error.message


def test_an_imagefolder(src: Path, tmp_path: Path) -> None:
    rows = [
        '{"file_name": "a.png", "text": " a cat "}',
        "not json",
        '{"text": "no name"}',
        '{"file_name": "../out.png", "text": "x"}',
        '{"file_name": "gone.png", "text": "x"}',
        '{"file_name": "sub/b.png"}',
    ]
    make(
        src,
        {"metadata.jsonl": "\n".join(rows), "a.png": "A", "sub/b.png": "B", "sub/b.txt": "own", "c.png": "C"},
    )
    make(tmp_path, {"out.png": "secret"})
    found = read(src)
    assert [(p.code, p.where) for p in found.problems] == [
        ("bad-row", "metadata.jsonl:2"),
        ("missing-key", "metadata.jsonl:3"),
        ("outside", "metadata.jsonl:4"),
        ("missing-file", "metadata.jsonl:5"),
        ("not-listed", ""),
    ]
    copy_in(found, tmp_path / "in")
    wanted = {"a.png": "A", "a.txt": "a cat\n", "sub/b.png": "B", "sub/b.txt": "own", "c.png": "C"}
    assert tree(tmp_path / "in") == wanted
    copy_in(without_captions(found), tmp_path / "bare")
    assert sorted(tree(tmp_path / "bare")) == ["a.png", "c.png", "sub/b.png"]


def test_an_imagefolder_through_a_link(src: Path, tmp_path: Path) -> None:
    make(src, {"metadata.jsonl": '{"file_name": "link/out.png", "text": "x"}', "a.png": "A"})
    make(tmp_path / "elsewhere", {"out.png": "secret"})
    (src / "link").symlink_to(tmp_path / "elsewhere")
    assert "outside" in {p.code for p in read(src).problems}


def test_an_imagefolder_with_csv(src: Path) -> None:
    make(src, {"metadata.csv": 'file_name,text\na.png,"cat, hat"\n', "a.png": "A"})
    assert read(src).parts[0].items[0].caption == "cat, hat"


def test_a_kohya_json(src: Path) -> None:
    table = {
        "a": {"caption": "a cat", "tags": "cat, hat"},
        "/far/away/b.png": {"tags": ["dog", "sofa"]},
        "sub/c": {"caption": "c"},
        "gone": {"caption": "x"},
        "d": "no table",
    }
    make(src, {"meta.json": json.dumps(table), "a.png": "A", "b.png": "B", "sub/c.png": "C", "d.png": "D"})
    found = read(src / "meta.json")
    assert {i.rel: i.caption for i in found.parts[0].items} == {
        "a.png": "a cat, cat, hat",
        "b.png": "dog, sofa",
        "sub/c.png": "c",
    }
    assert [p.path for p in found.problems] == ["gone", "d"]
    make(src, {"bad.json": "[1]"})
    with pytest.raises(DatasetError):
        read(src / "bad.json")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_in_a_wrapping_folder(tmp_path: Path, kind: str) -> None:
    names = {
        "set/10_cat/a.png": "A",
        "set/10_cat/a.txt": "cap",
        "set/readme.md": "no",
        "__MACOSX/set/._a.png": "no",
    }
    source = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(source, "w") as out:
            for name, data in names.items():
                out.writestr(name, data)
    else:
        with tarfile.open(source, "w") as tar:
            for name, data in names.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data.encode()))
    report = import_any(source, tmp_path / "in")
    assert report.layout == "kohya-folders" and tree(tmp_path / "in") == {
        "10_cat/a.png": "A",
        "10_cat/a.txt": "cap",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", source.name]


def test_detection_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    make(tmp_path, {"x.exe": ""})
    for path in (tmp_path / "x.exe", tmp_path / "nowhere"):
        with pytest.raises(DatasetError):
            detect(path)


def pictures(root: Path) -> list[ExportPicture]:
    make(root, {"one/a.png": "A1", "two/a.png": "A2", "b.jpg": "B", "m.png": "M"})
    return [
        ExportPicture(root / "one/a.png", "one/a.png", "cat, é", 10, "10_sks dog", Mask(root / "m.png")),
        ExportPicture(root / "two/a.png", "two/a.png", "line one\nline two", 10, "10_sks dog"),
        ExportPicture(root / "b.jpg", "b.jpg", "", 1, "pictures"),
    ]


def test_export_kohya_reads_back(src: Path, tmp_path: Path) -> None:
    export(pictures(src), tmp_path / "out", "kohya", 768)
    table = tomllib.loads((tmp_path / "out/dataset.toml").read_text())
    assert table["general"]["caption_extension"] == ".txt" and table["datasets"][0]["resolution"] == 768
    for found in (read(tmp_path / "out"), read(tmp_path / "out/dataset.toml")):
        assert {p.name: (p.repeats, {i.rel for i in p.items}) for p in found.parts} == {
            "10_sks dog": (10, {"a.png", "a-2.png"}),
            "1_pictures": (1, {"b.jpg"}),
        }
        assert [p.code for p in found.problems if p.code != "masks-taken"] == []
        masks = {i.rel: i.mask for p in found.parts for i in p.items}
        assert masks["a.png"] == tmp_path / "out/masks/10_sks dog/a.png"
    subset = table["datasets"][0]["subsets"][0]
    assert subset["conditioning_data_dir"] == str(tmp_path / "out/masks/10_sks dog")
    assert sorted(tree(tmp_path / "out/masks")) == [
        "10_sks dog/a-2.png",
        "10_sks dog/a.png",
        "1_pictures/b.png",
    ]
    files = tree(tmp_path / "out/10_sks dog")
    assert files["a-2.txt"] == "line one line two\n" and "a-masklabel.png" not in files
    assert "b.txt" not in tree(tmp_path / "out/1_pictures")


def test_masks_of_a_folder_come_along(src: Path, tmp_path: Path) -> None:
    """Beside, in a folder `masks`, of another format; none is taken for a picture."""
    src.mkdir()
    (src / "masks").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8), (1, 2, 3)).save(src / name)
    for name in ("a-masklabel.png", "masks/b.jpg", "masks/c.png"):
        Image.new("L", (8, 8), 200).save(src / name)
    report = import_any(src, tmp_path / "in")
    assert (report.images, report.masks) == (3, 3)
    names = sorted(p.name for p in (tmp_path / "in").rglob("*"))
    assert names == [f"{n}{s}" for n in "abc" for s in ("-masklabel.png", ".png")]
    for name in "abc":
        with Image.open(tmp_path / "in" / f"{name}-masklabel.png") as mask:
            assert (mask.format, mask.getpixel((4, 4))) == ("PNG", 200)
    found = scan([Source(tmp_path / "in")])
    assert [p.path.name for p in found.pictures] == ["a.png", "b.png", "c.png"]
    assert all(p.mask is not None for p in found.pictures)


def test_masks_go_where_each_trainer_looks_for_them(src: Path, tmp_path: Path) -> None:
    """sd-scripts wants one of each picture's size, in a folder apart; ai-toolkit some, apart."""
    src.mkdir()
    some = []
    for name, size in (("a", (8, 8)), ("b", (16, 8))):
        Image.new("RGB", size, (1, 2, 3)).save(src / f"{name}.jpg")
        some.append(ExportPicture(src / f"{name}.jpg", f"{name}.jpg", "cat"))
    Image.new("L", (4, 4), 0).save(src / "a-masklabel.png")
    some[0] = replace(some[0], mask=Mask(src / "a-masklabel.png"))
    done = export(some, tmp_path / "kohya", "kohya")
    assert done.masks == tmp_path / "kohya" / "masks"
    for name, size, grey in (("a", (8, 8), 0), ("b", (16, 8), 255)):
        with Image.open(tmp_path / "kohya" / "masks" / "1_pictures" / f"{name}.png") as mask:
            assert (mask.size, mask.getpixel((0, 0))) == (size, grey)
    for place in ("kohya", "kohya/dataset.toml"):
        target = tmp_path / f"in-{len(place)}"
        assert import_any(tmp_path / place, target).masks == 2
    in_place = scan([Source(tmp_path / "kohya")])
    assert {p.code for p in in_place.problems} == {"small-image"}
    assert [p.mask is not None for p in in_place.pictures] == [True, True]
    done = export(some, tmp_path / "aitk", "ai-toolkit")
    assert sorted(tree(tmp_path / "aitk")) == ["a.jpg", "a.txt", "b.jpg", "b.txt"]
    assert [p.name for p in (tmp_path / "aitk-masks").iterdir()] == ["a.png"] and done.masks is not None
    with pytest.raises(DatasetError, match="aitk-masks exists"):
        (tmp_path / "aitk").rename(tmp_path / "elsewhere")
        export(some, tmp_path / "aitk", "ai-toolkit")
    assert export(some[1:], tmp_path / "plain", "kohya").masks is None


def test_export_imagefolder_reads_back(src: Path, tmp_path: Path) -> None:
    export(pictures(src), tmp_path / "out", "imagefolder")
    items = {i.rel: i.caption for p in read(tmp_path / "out").parts for i in p.items}
    assert items == {"a.png": "cat, é", "a-2.png": "line one line two", "b.jpg": ""}


def test_export_ai_toolkit_and_zip(src: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export(pictures(src), tmp_path / "out", "ai-toolkit", on_progress=lambda a, b: told.append((a, b)))
    assert tree(tmp_path / "out")["a-2.txt"] == "line one\nline two\n" and told == [(3, 3)]
    done = export(pictures(src), tmp_path / "out.zip", "zip")
    assert (done.images, done.captions) == (3, 2)
    import_any(tmp_path / "out.zip", tmp_path / "in")
    assert sorted(tree(tmp_path / "in")) == [
        *("b.jpg", "one/a-masklabel.png", "one/a.png", "one/a.txt", "two/a.png", "two/a.txt"),
    ]


@pytest.mark.parametrize("kind", list(FORMATS))
def test_exports_leave_nothing_behind(src: Path, tmp_path: Path, kind: str) -> None:
    some = pictures(src)
    some[2].path.unlink()
    (tmp_path / "o").mkdir()
    with pytest.raises(DatasetError, match="cannot be written"):
        export(some, tmp_path / "o" / "out", kind)  # type: ignore[arg-type]
    assert not list((tmp_path / "o").iterdir())
    (tmp_path / "o" / "out").write_text("mine")
    with pytest.raises(DatasetError, match="exists"):
        export(some, tmp_path / "o" / "out", kind)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match="nothing"):
        export([], tmp_path / "o" / "new", kind)  # type: ignore[arg-type]
