"""The size of faces: looked for once, kept, filtered by, said of a character's pictures, offered as a crop.

The detector is not needed: names in sd-scripts' form tell the worker where the faces are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from loratui.dataset import faces
from loratui.dataset.cropping import Crop
from loratui.dataset.framing import Frame
from loratui.dataset.measure_pool import Work, measure_all
from loratui.dataset.query import parse, parse_sort, select, sort_rows
from loratui.project import Project
from loratui.project.collection import Collection
from loratui.project.findings import find_out, is_of_faces, project_findings

NEAR, FAR, NONE = "a_100_80_80_100.png", "b_100_100_10_12.png", "c.png"


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """A character: a near face, a far one, none."""
    root = tmp_path / "p"
    (root / "dataset").mkdir(parents=True)
    for number, name in enumerate((NEAR, FAR, NONE)):
        Image.effect_noise((200, 200), 40 + 40 * number).convert("RGB").save(root / "dataset" / name)
    Project.create(root, "demo", "sks", preset="sd15-character")
    project = Project.open(root)
    monkeypatch.setattr(faces, "can_see", lambda: True)
    made = Collection(project, project.resolve().data)
    made.refresh()
    return made


def names(rows: list) -> list[str]:
    return [row.name for row in rows]


def test_faces_are_looked_for_where_a_filter_asks(collection: Collection) -> None:
    assert is_of_faces(collection)
    find_out(collection, parse("blur:yes"))
    assert {row.face for row in collection.rows()} == {None}, "nobody asked"
    node = parse("face:>0.4")
    rows = find_out(collection, node)
    assert names(select(node, rows)) == [NEAR]
    assert [row.face for row in rows] == [0.5, 0.06, 0.0]
    assert names(select(parse("face:yes AND face:<0.1"), rows)) == [FAR]
    assert names(select(parse("face:0"), rows)) == [NONE]
    assert names(sort_rows(rows, parse_sort("-face"))) == [NEAR, FAR, NONE]
    assert collection.index.unlooked() == []
    before = [row.known.face for row in rows]
    collection.index.close()
    again = Collection(collection.project, collection.data)
    assert [row.known.face for row in again.rows()] == before


def test_another_file_is_looked_at_anew(collection: Collection) -> None:
    find_out(collection, parse("face:yes"))
    path = collection.project.root / "dataset" / NEAR
    Image.new("RGB", (220, 200)).save(path)
    collection.refresh()
    assert [row.face for row in collection.rows()] == [None, 0.06, 0.0]


def test_a_tiny_face_is_a_finding_of_a_character_only(collection: Collection) -> None:
    rows = find_out(collection, parse("problem:tiny-face"))
    (finding,) = [f for f in project_findings(collection, rows) if f.code == "tiny-face"]
    assert [Path(p).name for p in finding.paths] == [FAR] and finding.severity == "info"
    assert names(select(parse("problem:tiny-face"), rows)) == [FAR]
    style = collection.project.update(preset="sd15-style")
    other = Collection(style, style.resolve().data)
    assert not [f for f in project_findings(other, rows) if f.code == "tiny-face"]


def test_without_the_detector_nothing_is_looked_for(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "can_see", lambda: False)
    rows = find_out(collection, parse("face:yes"))
    assert select(parse("face:yes"), rows) == [] and {row.face for row in rows} == {None}
    assert not [f for f in project_findings(collection, rows) if f.code == "tiny-face"]


def test_a_file_that_cannot_be_decoded_has_no_face(tmp_path: Path) -> None:
    (tmp_path / "a_1_1_1_1.png").write_bytes(b"no picture")
    (found,) = measure_all([Work(tmp_path / "a_1_1_1_1.png", face=True)], workers=1)
    assert found.face is None and found.code == "corrupt-image"


def test_a_crop_about_a_face_holds_it_in_the_shape_of_a_bucket() -> None:
    buckets = [(512, 512), (512, 768), (768, 512)]
    for frame in (Frame(), Frame(90), Frame(0, True)):
        crop = Crop(1000, 1600, buckets, frame)
        face = faces.placed((0.4, 0.1, 0.6, 0.2), frame)
        box = crop.about(face).box
        assert box[0] <= face[0] and box[1] <= face[1] and box[2] >= face[2] and box[3] >= face[3]
        assert 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
        assert box[3] - box[1] == pytest.approx(3 * (face[3] - face[1]), abs=0.01)
    whole = Crop(1000, 1600, buckets).about((0.1, 0.1, 0.9, 0.9))
    assert whole.box == Crop(1000, 1600, buckets).about((0.0, 0.0, 1.0, 1.0)).box, (
        "as far as the picture goes"
    )


@pytest.mark.skipif(not faces.can_see(), reason="OpenCV is not installed")
def test_the_detector_runs_in_the_worker(tmp_path: Path) -> None:
    """Within the worker's limit of memory; noise has no face."""
    Image.effect_noise((640, 480), 5).convert("RGB").save(tmp_path / "a.jpg")
    (found,) = measure_all([Work(tmp_path / "a.jpg", face=True)], workers=1, seconds=60)
    assert found.face == () and not found.error
    assert "cv2" not in sys.modules
