"""Every field of the filter on a small project, as scripts ask for it; what is wrong is pointed at."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratui.cli import main
from loratui.cli.output import Output
from loratui.cli.studio import collection_at, select_rows
from loratui.dataset.query import FIELDS
from loratui.project import Project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures a to f: wide, tall, doubled, blurred, with a mask, without a caption."""
    folder = tmp_path_factory.mktemp("query") / "p"
    data = folder / "dataset"
    (data / "1_main").mkdir(parents=True)
    (data / "3_extra").mkdir()
    for number, (name, size) in enumerate({"a": (320, 160), "b": (160, 320), "c": (256, 256)}.items()):
        raw = random.Random(number).randbytes(size[0] * size[1] * 3)
        Image.frombytes("RGB", size, raw).save(data / "1_main" / f"{name}.png")
    (data / "1_main" / "d.png").write_bytes((data / "1_main" / "c.png").read_bytes())
    few = np.random.default_rng(5).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(few).resize((640, 512), Image.Resampling.BICUBIC).save(data / "3_extra" / "e.png")
    Image.new("L", (320, 160), 255).save(data / "1_main" / "a-masklabel.png")
    Image.frombytes("RGB", (64, 64), random.Random(9).randbytes(64 * 64 * 3)).save(data / "1_main" / "f.png")
    captions = {
        "1_main/a": "sks, Long Hair, hat",
        "1_main/b": "sks, long_hair, smile, 1girl",
        "1_main/c": "sks",
        "1_main/d": "A dog is sitting on a bench in the park with its owner, who reads.",
        "3_extra/e": "sks, sky, says (hi)",
    }
    for name, text in captions.items():
        (data / f"{name}.txt").write_text(text + "\n")
    Project.create(folder, "demo", "sks", preset="demo")
    for edit in (["stars", "4", "--where", "name:a.png"], ["weight", "2", "--where", "name:b.png"],
                 ["add", "late", "--where", "name:c.png"], ["pin", "--where", "name:b.png"]):  # fmt: skip
        assert main(["edit", str(folder), *edit]) == 0
    assert main(["frame", str(folder), "--mirror", "--where", "name:a.png"]) == 0
    return folder


ALL = "abcdef"
ORDERS = {
    "-width,name": "eacdbf",
    "aspect,-name": "bfdcea",
    "-stars,name": "abcdef",
    "-tags,name": "baecdf",
    "sharpness": "e",
    "-dup,-name": "dcfeba",
}
TABLE = [
    # field, filter, pictures
    ("", "hat", "a"),
    ("", "extra", "e"),
    ("tag", 'tag:"long hair"', "a"),
    ("tag", "tag:long?hair", "ab"),
    ("tag", "tag:long*", "ab"),
    ("tag", 'tag:="Long Hair"', "a"),
    ("tag", 'tag:="long hair"', ""),
    ("tag", "tag:ski", ""),
    ("tag", "tag:re:^s.s$", "abce"),
    ("caption", "caption:SITTING", "d"),
    ("caption", 'caption:"(hi)"', "e"),
    ("caption", 'caption:="Dog"', ""),
    ("caption", r'caption:re:"\bdog\b"', "d"),
    ("name", "name:a", "a"),
    ("name", r'name:re:"^[ab]\.png$"', "ab"),
    ("path", "path:3_ext*", "e"),
    ("source", "source:dataset", ALL),
    ("source", "NOT source:dataset", ""),
    ("bucket", "bucket:64x64", "cdef"),
    ("bucket", "bucket:re:^64", "cdef"),
    ("kind", "kind:prose", "d"),
    ("problem", "problem:missing-caption", "f"),
    ("problem", "problem:blurry OR problem:missing-*", "ef"),
    ("problem", "problem:yes", "cdef"),
    ("tags", "tags:>3", "b"),
    ("tags", "tags:0", "df"),
    ("chars", "chars:>40", "d"),
    ("tokens", "tokens:>12", "d"),
    ("width", "width:320", "a"),
    ("width", "width<=160", "bf"),
    ("height", "height:>=320", "be"),
    ("height", "height:!=256", "abef"),
    ("side", "side:>=256 AND side:<512", "cd"),
    ("area", "area:51200", "ab"),
    ("aspect", "aspect:2:1", "a"),
    ("aspect", "aspect:<1", "b"),
    ("megapixels", "megapixels:>0.06", "cde"),
    ("size", "size:<100k", "f"),
    ("score", "score:yes", ""),
    ("stars", "stars:>=4", "a"),
    ("stars", "stars:0", "bcdef"),
    ("weight", "weight:2", "b"),
    ("repeats", "repeats:3", "e"),
    ("dup", "dup:>1", "cd"),
    ("dup", "dup:yes", "cd"),
    ("sharpness", "sharpness:<0.29", "e"),
    ("face", "face:>0.1", ""),  # no detector, or no face
    ("blur", "blur:yes", "e"),
    ("blur", "blur:no", "abcdf"),
    ("mask", "mask:yes", "a"),
    ("framed", "framed:yes", "a"),
    ("edited", "edited:yes", "c"),
    ("captioned", "captioned:no", "f"),
    ("pinned", "pinned:yes", "b"),
    ("marked", "marked:yes", ""),
    ("", "sks AND NOT (hat OR late) AND width:<500", "b"),
    ("", "(hat OR smile) AND captioned:yes", "ab"),
]


def test_each_field_selects(project: Path) -> None:
    """By `select_rows`, which is what `query` and every --where call, on one look at the folder."""
    wrong = []
    out = Output(json=False)
    collection = collection_at(str(project), out)
    try:
        for _, text, wanted in TABLE:
            found = "".join(sorted(Path(row.rel).stem for row in select_rows(collection, text, out)))
            if found != wanted:
                wrong.append(f"{text}: {found or 'none'}, not {wanted or 'none'}")
        for order, wanted in ORDERS.items():
            found = "".join(Path(row.rel).stem for row in select_rows(collection, "", out, order))
            if not found.startswith(wanted):
                wrong.append(f"{order}: {found}, not {wanted}")
    finally:
        collection.close()
    assert not wrong
    assert {field for field, *_ in TABLE} - {""} == FIELDS.keys(), "a field without a row here"


def test_query_prints_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", str(project), "width:>200", "--sort=-width,name", "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)["paths"]
    assert [Path(p).stem for p in paths] == ["e", "a", "c", "d"]


@pytest.mark.parametrize(
    ("text", "place", "meant"),
    [
        ("widht:>500", 0, "width:"),
        ("hat AND startype:3", 8, "stars:"),
        ("megapixel:>1", 0, "megapixels:"),
        ("captiond:yes", 0, "captioned:"),
        ("blur:perhaps", 5, "blur:yes"),
        ("width:wide", 6, "width:>=512"),
        ("tag:long hair", 9, 'tag:"long hair"'),
        ('tag:"long', 4, ""),
        ("hat AND (sky OR", 15, ""),
        ("name:re:a(", 9, ""),
        ("hat OR AND sky", 7, '"AND"'),
        ("marked yes", 7, ""),
    ],
)
def test_a_wrong_filter_selects_nothing_and_says_where(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, place: int, meant: str
) -> None:
    assert main(["query", str(project), text]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert f"  {text}\n  {' ' * place}^\n" in err
    assert meant in err and "Traceback" not in err


def test_a_wrong_order_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", str(project), "hat", "--sort=-widht"]) == 2
    assert "width" in capsys.readouterr().err
