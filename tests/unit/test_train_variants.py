"""Versions of pictures: crops, faces and colours, cached as they are trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import train_kit as kit
from PIL import Image, ImageDraw, ImageFilter

from loratui.config.checks import check
from loratui.dataset import faces
from loratui.dataset.buckets import place
from loratui.dataset.framing import Frame
from loratui.dataset.variants import Jitter, around
from loratui.families.sd15 import FAMILY
from loratui.families.sdxl import FAMILY as SDXL
from loratui.plan.captions import caption_bytes
from loratui.plan.plan import plan
from loratui.project import manifest
from loratui.project.project import Project
from loratui.project.start import assess
from loratui.train.batches import Batches
from loratui.train.cache import Cache
from loratui.train.samples import Picture
from loratui.train.variants import Variants, face_key


def picture(path: Path = Path("p.png"), content: str = "ab", **changes: object) -> Picture:
    """40 x 30 px at 16 x 16: scaled to 21 x 16."""
    bucket = place(40, 30, (16, 16))
    return Picture(path, path.name, content, "a thing", 1, bucket, (40, 30), **changes)  # type: ignore[arg-type]


def test_versions_are_parts_of_the_picture_and_the_same_for_every_run() -> None:
    plain, many = picture(), Variants(64, "random", colours=0.2)
    versions = [many.of(plain, n) for n in range(64)]
    assert versions[0] == plain and versions == [many.of(plain, n) for n in range(64)]
    lefts = {v.bucket.crop[0] for v in versions}
    assert lefts == set(range(6)) and all(v.bucket.scaled == (21, 16) for v in versions)
    assert all(v.bucket.crop[2] - v.bucket.crop[0] == 16 and v.bucket.crop[1] == 0 for v in versions)
    colours = [v.jitter for v in versions[1:]]
    assert all(
        c and min(c.brightness, c.contrast, c.saturation) >= 0.8 and abs(c.hue) <= 0.05 for c in colours
    )
    assert len(set(colours)) == 63
    assert Variants(64, "random").of(picture(content="other"), 5) != Variants(64, "random").of(plain, 5)
    assert Variants(64, "random").of(replace(plain, placed=True), 5).bucket == plain.bucket
    drawn = [many.at(plain, 1, step, slot) for step in range(100) for slot in range(2)]
    assert len(set(drawn)) > 55 and drawn == [many.at(plain, 1, s, n) for s in range(100) for n in range(2)]


def test_colours_change_as_they_say() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    assert Jitter(brightness=1.2).apply(grey).getpixel((0, 0)) == (120, 120, 120)
    assert Jitter(contrast=0.5, hue=0.3, saturation=0.2).apply(grey).getpixel((0, 0)) == (100, 100, 100)
    two = Image.fromarray(np.array([[[50] * 3, [150] * 3]], dtype=np.uint8))
    assert np.asarray(Jitter(contrast=0.5).apply(two))[0, :, 0].tolist() == [75, 125]
    red = Image.new("RGB", (2, 2), (200, 50, 50))
    assert Jitter().apply(red).tobytes() == red.tobytes()
    r, g, b = Jitter(saturation=0.0).apply(red).getpixel((0, 0))  # type: ignore[misc]
    assert r == g == b == round(0.299 * 200 + 0.701 * 50)
    pale = Image.new("RGB", (2, 2), (150, 100, 100))
    r, g, b = Jitter(hue=1 / 3).apply(pale).getpixel((0, 0))  # type: ignore[misc]
    assert max(r, g, b) != r and abs(0.299 * r + 0.587 * g + 0.114 * b - 114.95) < 1.5


@pytest.fixture(scope="module")
def parts(tiny_sd15: Path):
    return FAMILY.load(tiny_sd15, torch.float32)


def test_what_is_cached_is_the_version(tmp_path: Path, parts) -> None:
    import hashlib

    path = tmp_path / "p.png"
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    mask = Image.fromarray(np.repeat(np.arange(24, dtype=np.uint8)[None] * 10, 16, 0))
    mask.save(tmp_path / "m.png")
    one = Picture(
        path, "p.png", hashlib.sha256(path.read_bytes()).hexdigest(), "c", 1, place(24, 16, (16, 16)),
        (24, 16), tmp_path / "m.png", hashlib.sha256((tmp_path / "m.png").read_bytes()).hexdigest(),
    )  # fmt: skip
    variants = Variants(6, "random", colours=0.3)
    cache = Cache(tmp_path / "cache", FAMILY, parts, torch.device("cpu"))
    told: list[tuple[str, int, int]] = []
    cache.fill([one], [], True, lambda *a: told.append(a), variants=variants)
    assert told[-1] == ("caching latents", 12, 12)
    assert cache.latent_key(variants.of(one, 0), False) == cache.latent_key(one, False)
    for n in range(6):
        version = variants.of(one, n)
        left = version.bucket.crop[0]
        cut = Image.fromarray(pixels[:, left : left + 16])
        cut = version.jitter.apply(cut) if version.jitter else cut
        for flip in (False, True):
            x = torch.from_numpy(np.array(cut, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
            with torch.no_grad():
                mean, std = FAMILY.encode_pictures(parts, (x.flip(-1) if flip else x).contiguous())
            found = cache.latents(version, flip)
            assert torch.equal(found[0], mean[0]) and torch.equal(found[1], std[0])
        wanted = torch.arange(left, left + 16).reshape(8, 2).float().mean(1) * 10 / 255
        assert torch.allclose(cache.mask(version, False, (8, 8))[0], wanted, atol=1e-4)
    calls = len(list((tmp_path / "cache").rglob("*.safetensors")))
    told.clear()
    cache.fill([one], [], True, lambda *a: told.append(a), variants=variants)
    assert not told and calls == len(list((tmp_path / "cache").rglob("*.safetensors")))


def test_versions_that_are_alike_are_encoded_once(tmp_path: Path, parts) -> None:
    import hashlib

    path = tmp_path / "p.png"
    Image.new("RGB", (16, 16), (9, 99, 199)).save(path)
    one = Picture(
        path,
        "p.png",
        hashlib.sha256(path.read_bytes()).hexdigest(),
        "c",
        1,
        place(16, 16, (16, 16)),
        (16, 16),
    )
    told: list[tuple[str, int, int]] = []
    cache = Cache(tmp_path / "cache", FAMILY, parts, torch.device("cpu"))
    cache.fill([one], [], False, lambda *a: told.append(a), variants=Variants(9, "random"))
    assert told[-1] == ("caching latents", 1, 1)


def test_the_crop_that_sdxl_hears_of_is_the_version_s() -> None:
    """Section 2.2 of arXiv:2307.01952: (top, left) of the crop; mirrored as the picture is."""

    class Blank:
        def latents(self, picture: Picture, flip: bool = False):
            return torch.zeros(4, 2, 2), torch.zeros(4, 2, 2)

    one, variants = picture(), Variants(64, "random")
    stream = Batches(
        [one], Blank(), seed=3, batch_size=1, accumulation=1, repeats=1, flip=True, caption_dropout=0.0,
        timesteps=1000, device=torch.device("cpu"), size_condition=SDXL.size_condition, encode=False,
        variants=variants,
    )  # fmt: skip
    seen = set()
    for step in range(200):
        batch = stream.at(step, 0)
        numbers = batch.condition["time_ids"][0].tolist()
        left = variants.at(one, 3, step, 0).bucket.crop[0]
        assert numbers[:2] == [30, 40] and numbers[4:] == [16, 16] and numbers[2] == 0
        assert numbers[3] in {left, 21 - left - 16}
        seen.add(numbers[3])
        assert batch.pictures == (one,)
    assert seen == set(range(6))


def test_a_face_is_kept_and_as_close_as_asked_for() -> None:
    bucket = place(400, 300, (64, 64))
    face = (0.75, 0.1, 0.85, 0.2333)  # 40 x 40 px, upper right
    for n in range(20):
        for near, far in ((0.0, 0.0), (2.0, 4.0)):
            found = around(bucket, (400, 300), face, "ab", n, near, far)
            left, top, right, bottom = (
                side / total for side, total in zip(found.crop, (*found.scaled, *found.scaled), strict=True)
            )
            assert left <= face[0] and top <= face[1] and right >= face[2] and bottom >= face[3] - 0.01
            heights = (bottom - top) * 300 / 40
            assert heights == pytest.approx(7.5, abs=0.1) if not near else 1.9 < heights < 4.1
            assert found.upscale <= 1.03, "nothing is enlarged to come closer"
    assert (
        around(bucket, (400, 300), face, "ab", 0, 2.0, 4.0).crop
        != around(bucket, (400, 300), face, "ab", 1, 2.0, 4.0).crop
    )
    small = around(place(400, 300, (256, 256)), (400, 300), face, "ab", 3, 2.0, 4.0)
    assert small.upscale <= 1.01
    variants = Variants(1, "face", faces={face_key(picture()): (0.0, 0.4, 0.2, 0.6)})
    assert variants.at(picture(), 1, 0, 0).bucket.crop[0] == 0 != picture().bucket.crop[0]
    assert variants.at(picture(content="no face"), 1, 0, 0) == picture(content="no face")


def test_faces_in_names_turn_with_the_picture() -> None:
    """sd-scripts: NAME_cx_cy_w_h, in px."""
    path = Path("me_0001_300_60_40_40.png")
    assert faces.named(path, 400, 300, Frame()) == pytest.approx((0.7, 40 / 300, 0.8, 80 / 300))
    assert faces.named(path, 400, 300, Frame(turn=90)) == pytest.approx(
        (220 / 300, 0.7, 260 / 300, 0.8), abs=1e-5
    )
    assert faces.named(path, 400, 300, Frame(mirror=True)) == pytest.approx(
        (0.2, 0.1333, 0.3, 0.2667), abs=1e-4
    )
    assert faces.named(Path("me_1_2_3.png"), 400, 300, Frame()) is None
    assert faces.named(Path("me_9000_2_3_4.png"), 400, 300, Frame()) is None


def test_a_drawn_face_is_found() -> None:
    pytest.importorskip("cv2")
    image = Image.new("RGB", (400, 300), (120, 130, 140))
    pen = ImageDraw.Draw(image)
    pen.ellipse((245, 54, 335, 166), fill=(225, 190, 165))
    for x in (272, 308):
        pen.ellipse((x - 9, 94, x + 9, 103), fill=(250, 250, 250))
        pen.ellipse((x - 4, 94, x + 4, 103), fill=(40, 30, 30))
        pen.rectangle((x - 12, 86, x + 12, 89), fill=(70, 50, 40))
    pen.polygon([(290, 104), (284, 125), (296, 125)], fill=(200, 160, 135))
    pen.rectangle((276, 137, 304, 142), fill=(150, 70, 70))
    box = faces.seen(image.filter(ImageFilter.GaussianBlur(1.5)))
    assert box is not None
    assert (box[0] + box[2]) / 2 == pytest.approx(0.725, abs=0.03)
    assert (box[1] + box[3]) / 2 == pytest.approx(0.367, abs=0.06)
    assert faces.seen(Image.new("RGB", (400, 300), (120, 130, 140))) is None


def test_what_a_run_plans_says_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pictures"
    kit.tiny_pictures(folder, 3)
    project = Project.create(tmp_path / "p", "demo", "sks", folder, preset="demo")
    scan = project.scan()
    plain = kit.tiny_config()
    many = replace(plain, data=replace(plain.data, crop="random", variants=5, flip=True))
    bytes_of = [plan(project, c, scan).disk["caches"] for c in (plain, many)]
    text = caption_bytes("auto", None, {"", *(p.caption for p in scan.pictures)})
    assert bytes_of[1] - text == 10 * (bytes_of[0] - text)

    monkeypatch.setattr(faces, "can_see", lambda: False)
    faced = project.resolve("demo", {"data.crop": "face"})
    assert "missing-package" in {p.code for p in assess(project, faced).errors}
    codes = {
        p.code
        for p in check(kit.tiny_config(data__face_near=2.0, data__colour_jitter=0.6, data__variants=99))
    }
    assert {"no-faces", "jitter-high", "many-variants"} <= codes
    wrong = check(kit.tiny_config(data__crop="face", data__face_near=4.0, data__face_far=2.0))
    assert [p.fix for p in wrong if p.code == "face-range"] == [{"data.face_far": 4.0, "data.face_near": 2.0}]


def test_a_crop_by_hand_is_marked_in_the_manifest(tmp_path: Path) -> None:
    (path,) = kit.tiny_pictures(tmp_path, 1)
    from loratui.dataset.scan import Picture as Scanned

    frame = Frame(box=(0.0, 0.0, 0.5, 0.5))
    for chosen, marked in ((Frame(), False), (frame, True)):
        scanned = Scanned(path, path.name, 20, 20, "c", None, 1, tmp_path, frame=chosen)
        assert manifest.rows((scanned,), kit.tiny_config())[0].get("placed", False) == marked
