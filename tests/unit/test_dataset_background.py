"""What shows through transparent pixels: one colour for trainer, preview, figures and copies."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from loratui.config.colours import WHITE, read_colour, read_paper
from loratui.dataset.baking import baked_picture, framed_picture
from loratui.dataset.framing import Frame
from loratui.dataset.index import Index
from loratui.dataset.pixels import trained_pixels
from loratui.errors import ConfigError
from loratui.project import Project, manifest
from loratui.project.collection import Collection
from loratui.project.framing import set_frames

BLUE = (0, 0, 255)
SIZE = (64, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project on blue: one picture that nothing covers, one without an alpha channel."""
    folder = tmp_path / "p"
    (folder / "dataset").mkdir(parents=True)
    Image.new("RGBA", SIZE, (255, 0, 0, 0)).save(folder / "dataset" / "clear.png")
    Image.new("RGB", SIZE, (9, 9, 9)).save(folder / "dataset" / "opaque.png")
    Project.create(folder, "demo", "sks", preset="demo")
    on_blue(folder, "#0000ff")
    return folder


def on_blue(folder: Path, colour: str) -> None:
    Project.open(folder).update(overrides={"data.background": colour})


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("white", WHITE),
        ("#00f", BLUE),
        (" Blue ", BLUE),
        ("#0000FF", BLUE),
        ("gray", (128, 128, 128)),
        ("blau", None),
        ("", None),
        ("#0000ff80", None),
        ("rgb(0,0", None),
    ],
)
def test_colours_as_people_write_them(text: str, colour: object) -> None:
    assert read_colour(text) == colour


def test_a_manifest_may_say_anything() -> None:
    assert read_paper([0, 0, 255]) == BLUE
    assert read_paper(None) == read_paper([1, 2]) == read_paper(["a", -1, 300]) == WHITE


def test_a_wrong_colour_is_named(root: Path) -> None:
    on_blue(root, "blau")
    with pytest.raises(ConfigError) as caught:
        Project.open(root).resolve()
    (problem,) = caught.value.problems
    assert "'blau' is not a colour" in problem.message and "#rrggbb" in problem.advice
    assert Project.open(root).paper == WHITE


def test_the_trainer_sees_the_colour_and_its_cache_knows(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from loratui.train.cache import Cache
    from loratui.train.samples import read_manifest

    def keys() -> dict[str, str]:
        project = Project.open(root)
        config = project.resolve()
        rows = manifest.rows(project.scan(config.data).pictures, config)
        assert ["paper" in row for row in rows] == [config.data.paper != WHITE, False]
        (tmp_path / "m.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        cache = Cache.__new__(Cache)
        cache.parts = type("P", (), {"vae_identity": "x"})()
        clear = read_manifest(tmp_path / "m.jsonl")[0]
        seen = trained_pixels(clear.path, clear.bucket, clear.frame, clear.paper)
        assert seen.getpixel((3, 3)) == config.data.paper
        return {one.rel: cache.latent_key(one, False) for one in read_manifest(tmp_path / "m.jsonl")}

    blue = keys()
    on_blue(root, "white")
    white = keys()
    on_blue(root, "#00f")
    assert keys() == blue
    assert {name for name in blue if blue[name] != white[name]} == {"dataset/clear.png"}


def test_copies_and_captioners_see_it(root: Path) -> None:
    path = root / "dataset" / "clear.png"
    assert framed_picture(path, Frame(), BLUE).getpixel((0, 0)) == BLUE
    with Image.open(io.BytesIO(baked_picture(path, Frame(90), None, BLUE))) as made:
        assert made.getpixel((0, 0)) == BLUE
    project = Project.open(root)
    collection = Collection(project, project.resolve().data)
    try:
        collection.refresh()
        set_frames(collection.history, {path: Frame(90)})
        rows = collection.rows()
        done = collection.export(rows, root / "out", "ai-toolkit", bake=True)
    finally:
        collection.close()
    with Image.open(done.path / "clear.png") as copy:
        assert copy.convert("RGB").getpixel((0, 0)) == BLUE


def test_previews_show_it(root: Path) -> None:
    from loratui.ui.preview import Shown, load

    path = root / "dataset" / "clear.png"
    assert load(path, Shown(paper=BLUE)).getpixel((0, 0)) == BLUE
    assert load(path).getpixel((0, 0)) == WHITE, "another colour is another picture in the cache"


def test_figures_and_thumbnails_follow_the_colour(root: Path) -> None:
    cache, clear = root / ".loratui" / "cache", root / "dataset" / "clear.png"
    Image.new("RGB", SIZE, (9, 9, 9)).save(root / "dataset" / "photo.jpg")
    pictures = sorted((root / "dataset").iterdir())
    bright = {}
    for paper in (WHITE, (0, 0, 0), (0, 0, 0)):
        index = Index(cache, paper)
        index.refresh(pictures)
        todo = [p.name for p in index.unmeasured()]
        assert todo == ([] if paper in bright else [p.name for p in pictures[: 3 - len(bright)]])
        list(index.measure(workers=1, thumbnails=True))
        found = index.get(clear)
        assert found is not None and found.quality is not None
        bright[paper] = found.quality.bright_p5
        with Image.open(index.thumbnail_path(clear)) as thumbnail:
            pixel = thumbnail.convert("RGB").getpixel((5, 5))
            assert max(abs(a - b) for a, b in zip(pixel, paper, strict=True)) < 4
        index.close()
    assert bright == {WHITE: 1.0, (0, 0, 0): 0.0}
