"""The pictures of a project as one object: rows, scan out of the index, trash as a step, kept filters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from app_kit import picture, project

from loratui.dataset.edit_parse import parse_operation
from loratui.dataset.query import QueryError
from loratui.dataset.sidecar import read_caption
from loratui.errors import DatasetError
from loratui.project import Project
from loratui.project.collection import Collection
from loratui.project.filters import forget_filter, keep_filter, kept_filters


def opened(root: Path) -> Collection:
    """The collection of a project, with the disk read."""
    made = Project.open(root)
    collection = Collection(made, made.resolve().data)
    collection.refresh()
    return collection


def test_the_scan_out_of_the_index_is_the_scan_of_the_disk(tmp_path: Path) -> None:
    """Same pictures, same findings, whatever is wrong with them; also in kohya folders."""
    root = project(tmp_path / "p", 5)
    data = root / "dataset"
    (data / "broken.png").write_bytes(b"nothing")
    (data / "01.txt").write_bytes(b"\xef\xbb\xbfsks robot\nsecond line")
    (data / "02.txt").write_bytes(b"")
    (data / "04.txt").write_bytes("caf\xe9".encode("cp1252"))
    picture(data / "05.jpg", seed=5)
    picture(data / "tiny.png", (20, 12))
    kohya = root / "more"
    (kohya / "3_hat").mkdir(parents=True)
    picture(kohya / "3_hat" / "k.png")
    picture(kohya / "loose.png")
    Project.open(root).add_source("more", 2)
    collection = opened(root)
    wanted = Project.open(root).scan(collection.data)
    found = collection.scan()
    assert [p.rel for p in found.pictures] == [p.rel for p in wanted.pictures]
    assert found.pictures == wanted.pictures
    assert {(p.code, p.severity) for p in found.problems} == {(p.code, p.severity) for p in wanted.problems}
    assert found.buckets == wanted.buckets
    rows = {row.name: row for row in collection.rows()}
    assert rows["k.png"].repeats == 6
    assert "caption-bom" in rows["01.png"].problems and "caption-lines" in rows["01.png"].problems
    assert "empty-caption" in rows["02.png"].problems and "caption-not-utf8" in rows["04.png"].problems
    assert rows["broken.png"].known.code == "corrupt-image"


def test_trash_is_a_step_like_any_other(tmp_path: Path) -> None:
    """Undo in another process brings picture and caption back, in the order of the steps."""
    root = project(tmp_path / "p", 4)
    before = {p.name: p.read_bytes() for p in (root / "dataset").iterdir()}
    collection = opened(root)
    collection.commit(collection.plan(parse_operation("add", ["hat"]), collection.rows()))
    collection.throw_away([root / "dataset" / "01.png", root / "dataset" / "03.png"])
    assert not (root / "dataset" / "01.png").exists()
    again = opened(root)
    moved = again.undo()
    assert {p.name for p in moved.pictures} == {"01.png", "03.png"} and not moved.problems
    assert (root / "dataset" / "01.txt").read_text() == "sks robot, picture 1, hat\n"
    assert again.redo().pictures and not (root / "dataset" / "01.png").exists()
    again.undo()
    again.undo()
    assert {p.name: p.read_bytes() for p in (root / "dataset").iterdir()} == before


def test_what_cannot_come_back_is_said(tmp_path: Path) -> None:
    """Another file stands in the picture's place."""
    root = project(tmp_path / "p", 2)
    collection = opened(root)
    place = root / "dataset" / "01.png"
    collection.throw_away([place])
    picture(place, seed=77)
    moved = collection.undo()
    assert not moved.pictures and "taken by another file" in moved.problems[0]
    assert len(collection.trash.items()) == 1


def test_rows_know_who_wrote_a_caption_last(tmp_path: Path) -> None:
    """By hand, pinned; taken back, as it was found."""
    root = project(tmp_path / "p", 2)
    collection = opened(root)
    path = root / "dataset" / "01.png"
    collection.save_caption(path, "mine", read_caption(path))
    collection.look_again([path])
    (row,) = collection.rows([path])
    assert row.caption == "mine" and row.pinned and row.edited
    entry = collection.last_change(root / "dataset" / "01.txt")
    assert entry is not None and entry.actor["kind"] == "hand"
    batch = collection.plan(parse_operation("add", ["hat"]), collection.rows())
    assert batch.reasons == {"pinned by hand": 1}
    collection.undo()
    assert collection.last_change(root / "dataset" / "01.txt") is None


def test_stars_are_kept_per_picture_and_undone(tmp_path: Path) -> None:
    """Each picture its own value, one step."""
    root = project(tmp_path / "p", 2)
    collection = opened(root)
    one, two = (root / "dataset" / f"0{n}.png" for n in (1, 2))
    collection.note({one: 3, two: 5}, "stars", "stars for 2 pictures")
    assert [row.stars for row in opened(root).rows()] == [3, 5]
    collection.undo()
    assert [row.stars for row in opened(root).rows()] == [0, 0]


def test_filters_are_kept_and_wrong_ones_refused(tmp_path: Path) -> None:
    """Under a name, over restarts; a damaged file is none."""
    keep_filter(tmp_path, "hats", "tag:hat")
    keep_filter(tmp_path, "small", "side:<512")
    assert kept_filters(tmp_path) == {"hats": "tag:hat", "small": "side:<512"}
    with pytest.raises(QueryError):
        keep_filter(tmp_path, "wrong", "widht:<5")
    with pytest.raises(DatasetError, match="needs a name"):
        keep_filter(tmp_path, " ", "hat")
    forget_filter(tmp_path, "hats")
    forget_filter(tmp_path, "never")
    assert kept_filters(tmp_path) == {"small": "side:<512"}
    (tmp_path / ".loratui" / "filters.json").write_text("{")
    assert kept_filters(tmp_path) == {}


def test_export_writes_the_chosen_rows(tmp_path: Path) -> None:
    """Captions as the rows have them."""
    root = project(tmp_path / "p", 3)
    collection = opened(root)
    rows = [replace(row) for row in collection.rows()[:2]]
    made = collection.export(rows, tmp_path / "out", "ai-toolkit")
    assert made.images == 2
    assert (tmp_path / "out" / "01.txt").read_text().strip() == "sks robot, picture 1"


def test_undo_names_the_pictures_it_touched(tmp_path: Path) -> None:
    """Stars touch their picture, a caption the picture beside it: nothing else has to be looked at."""
    root = project(tmp_path / "p", 4)
    collection = opened(root)
    one, two = (root / "dataset" / f"0{n}.png" for n in (1, 2))
    collection.note({one: 3}, "stars", "stars for 01.png")
    collection.save_caption(two, "mine", read_caption(two))
    assert set(collection.undo().touched) == {two}
    assert set(collection.undo().touched) == {one}
    assert set(collection.redo().touched) == {one}


def test_steps_of_another_process_are_told_once_and_own_ones_never(tmp_path: Path) -> None:
    """What the command line did is among what a look finds; the app's own steps it knows already."""
    root = project(tmp_path / "p", 4)
    here, there = opened(root), opened(root)
    one, two = (root / "dataset" / f"0{n}.png" for n in (1, 2))
    here.note({one: 3}, "stars", "stars")
    there.note({two: 5}, "stars", "stars")
    assert here.refresh().touched == [two]
    assert here.refresh().touched == []
    there.undo()
    found = here.look_at([here.history.log.path])
    assert found is not None and found.touched == [two] and not found.anything
    there.save_caption(two, "theirs", read_caption(two))
    found = here.look_at([root / "dataset" / "02.txt"])
    assert found is not None and found.touched == [two] and found.captions == 1


@pytest.mark.parametrize("what", ["picture", "mask", "folder", "gone", "folder gone"])
def test_what_comes_or_goes_asks_for_a_look_at_all(tmp_path: Path, what: str) -> None:
    """A new picture, a mask, a folder; the same when they go. A file that is none of ours does not."""
    root = project(tmp_path / "p", 2)
    data = root / "dataset"
    (data / "sub").mkdir()
    picture(data / "sub" / "in.png", seed=1)
    collection = opened(root)
    (data / "notes.md").write_text("x")
    (data / "orphan.txt").write_text("x")
    found = collection.look_at([data / "notes.md", data / "orphan.txt", data / "never.there"])
    assert found is not None and not found.touched
    place = {"picture": data / "n.png", "mask": data / "01-masklabel.png", "folder": data / "more"}.get(what)
    if what == "folder":
        (data / "more").mkdir()
    elif place is not None:
        picture(place)
    elif what == "gone":
        place = data / "01.png"
        place.unlink()
    else:
        place = data / "sub"
        place.rename(tmp_path / "away")
    assert place is not None and collection.look_at([place]) is None
