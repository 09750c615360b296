"""A run for others to see: one page without an address in it, one sheet of samples, marks kept aside."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from app_kit import HOSTILE, RECORDED, RunWriter, picture
from PIL import Image

from loratui.cli import main
from loratui.errors import DatasetError, RunError, SaveError
from loratui.project import favourites
from loratui.project.favourites import Mark
from loratui.report.export import export_page, export_sheet
from loratui.report.facts import shortened
from loratui.report.svg import loss_svg
from loratui.runs.curves import Curves
from loratui.runs.directory import RunDir
from loratui.runs.sheet import sheet, title
from loratui.runs.state import Sample

EVIL = "<script>alert(1)</script>\" onerror='x' <img src=//evil.example/a.png>"


class Page(HTMLParser):
    """Tags, their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def copied(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "p" / "runs" / RECORDED.name)
    shutil.copytree(RECORDED, run.path)
    return run


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    run = copied(tmp_path)
    rows = [
        {"rel": "a.png", "caption": "sks robot, red", "bucket": [64, 64]},
        {"rel": "b.png", "caption": "sks robot", "bucket": [64, 80], "held": True},
    ]
    run.manifest_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = "samples/step-000100/01.png"
    favourites.set_mark(tmp_path / "p", favourites.key(run, first), Mark(True, "the <best> one"))
    target = tmp_path / "out.html"
    assert export_page(run, target) == 20
    text = target.read_text("utf-8")
    page = Page(text)
    pictures = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 20 and all(p.startswith("data:image/jpeg;base64,") for p in pictures)
    addresses = [v for _, a in page.tags for n, v in a.items() if n in {"href", "src", "action", "poster"}]
    assert all(v and v.startswith(("data:", "#")) for v in addresses)
    assert not re.search(r"https?:|url\(|@import|<script", text.replace("http-equiv", ""))
    for words in ("sks robot on the moon", "the <best> one", "★", "64x80: 1", "sks robot (2)", "red (1)"):
        assert words in page.words, words
    assert "held back" in page.words and "[optimizer]" in page.words and "192/192" in page.words
    drawn = ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.S)[0])  # type: ignore[index]
    lines = {e.get("class"): len((e.get("points") or "").split()) for e in drawn.iter() if e.get("points")}
    assert lines["smooth"] > 200 and lines["held"] == 5 and lines["raw"] > 400


def test_nothing_foreign_becomes_markup(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "p", "evil", name=EVIL, base=EVIL, preset=EVIL)
    writer.steps(1, 3)
    folder = writer.run.samples_dir / "step-000001"
    folder.mkdir(parents=True)
    picture(folder / "00.png")
    (folder / "01.png").write_bytes(b"<svg onload=alert(1)>")
    for index, prompt in enumerate((EVIL, HOSTILE)):
        path = f"samples/step-000001/{index:02d}.png"
        writer.write("sample", step=1, index=index, prompt=prompt, seed=1, path=path, label=EVIL)
        favourites.set_mark(tmp_path / "p", favourites.key(writer.run, path), Mark(True, EVIL))
    writer.write("state", state="failed", reason=EVIL)
    writer.run.config_path.write_text(f"[run]\nname = '''{EVIL}'''\n# </pre>{EVIL}")
    writer.run.manifest_path.write_text(json.dumps({"rel": EVIL, "caption": EVIL + "," + HOSTILE}) + "\n")
    target = tmp_path / "out.html"
    export_page(writer.run, target)
    text = target.read_text("utf-8")
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "table", "tr", "th", "td", "svg",
        "polygon", "polyline", "line", "text", "span", "div", "a", "img", "details", "summary", "pre",
    }  # fmt: skip
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert sum(tag == "img" for tag, _ in page.tags) == 1 and "cannot be read" in page.words
    assert page.words.count("alert(1)") >= 8 and "\x1b" not in text and "\x9b" not in text
    export_sheet(writer.run, tmp_path / "out.png")


def test_the_sheet_has_every_sample_and_no_metadata(tmp_path: Path) -> None:
    run = copied(tmp_path)
    assert main(["report", str(run.path), "--out", str(tmp_path / "s.png"), "--side", "128"]) == 0
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (5 * 136 + 8, 3 * 16 + 4 * (128 + 16 + 10) + 8) and not image.info
        cell = image.crop((8 + 136 * 4, 48, 8 + 136 * 4 + 128, 48 + 128))
    with Image.open(RECORDED / "samples/step-000400/00.png") as original:
        assert list(cell.getdata()) == list(original.convert("RGB").resize((128, 128), 0).getdata())


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunWriter(tmp_path / "p").run
    with pytest.raises(RunError, match="no samples"):
        export_sheet(run, tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        export_page(run, tmp_path / "file" / "a.html")
    assert main(["report", str(run.path), "--out", "a.pdf"]) == 2
    assert "neither .html nor .png" in capsys.readouterr().err
    assert export_page(run, tmp_path / "a.html") == 0 and loss_svg(Curves()) == ""


def test_marks_are_kept_and_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    assert favourites.marks(tmp_path) == {}
    favourites.set_mark(tmp_path, "r/a.png", Mark(True, "good"))
    favourites.set_mark(tmp_path, "r/b.png", Mark(False, "soft"))
    assert favourites.marks(tmp_path) == {"r/a.png": Mark(True, "good"), "r/b.png": Mark(False, "soft")}
    assert favourites.set_mark(tmp_path, "r/a.png", Mark()) == {"r/b.png": Mark(False, "soft")}
    path = tmp_path / ".loratui/samples.json"
    path.write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        favourites.set_mark(tmp_path, "r/a.png", Mark(True))
    assert path.read_text() == "{" and favourites.marks(tmp_path) == {}


def test_samples_stand_by_step_and_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [
        Sample(100, 0, "a", 1, "x"), Sample(0, 0, "a", 1, "y"), Sample(100, 1, "b", 2, "z"),
        Sample(200, 1, "changed", 2, "w"), Sample(200, 0, "a", 1, "v", label="1.5"),
        Sample(200, 0, "a", 1, "u", label="0.5"), Sample(300, 0, "a", 1, "../u"),
        Sample(300, 0, "a", 1, "/u"),
    ]  # fmt: skip
    table = sheet(drawn)
    assert [title(c) for c in table.columns] == ["base", "100", "200", "1.5", "0.5"] and table.base == 0
    assert [line[1] for line in table.lines] == ["a", "b", "changed"]
    assert table.at(2, 0) is None and table.at(3, 0) == drawn[4] and table.at(9, 0) is None
    monkeypatch.setenv("HOME", "/home/u")
    assert shortened('p = "/home/u/x", /home/user, "/home/u"') == 'p = "~/x", /home/user, "~"'
