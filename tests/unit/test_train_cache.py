"""Caches: stale entries are never used, damage is repaired, writers do not disturb each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.families.sd15 import FAMILY
from loratui.train.cache import Cache, TensorStore
from loratui.train.samples import read_manifest


@pytest.fixture(scope="module")
def parts(tiny_sd15: Path):
    return FAMILY.load(tiny_sd15, torch.float32)


@pytest.fixture
def pictures(tmp_path: Path, tiny_sd15: Path):
    return read_manifest(kit.make_run(tmp_path / "p", tiny_sd15, kit.tiny_config()).manifest_path)


def cache(tmp_path: Path, parts) -> Cache:
    return Cache(tmp_path / "cache", FAMILY, parts, torch.device("cpu"))


def test_what_is_cached_is_what_the_codec_says(tmp_path: Path, parts, pictures) -> None:
    first = cache(tmp_path, parts)
    first.fill(pictures, ["", "a", "b"], True, lambda *a: None)
    second = cache(tmp_path, parts)
    for picture in pictures:
        for flip in (False, True):
            for a, b in zip(first.latents(picture, flip), second.latents(picture, flip), strict=True):
                assert torch.equal(a, b) and a.dtype == torch.float32
        width, height = picture.bucket.size
        assert first.latents(picture)[0].shape == (4, height // 2, width // 2)
    mirrored = [not torch.equal(first.latents(p)[0], first.latents(p, True)[0]) for p in pictures]
    assert sum(mirrored) >= 3  # one of the drawings is symmetric
    one, two = (c.condition("a")["prompt_embeds"] for c in (first, second))
    assert torch.equal(one, two) and not torch.equal(one, first.condition("b")["prompt_embeds"])


def test_keys_depend_on_everything_that_counts(tmp_path: Path, parts, pictures) -> None:
    store = cache(tmp_path, parts)
    picture = pictures[0]
    other = cache(tmp_path, replace(parts, vae_identity="x", text_identity="y"))
    moved = replace(picture, bucket=replace(picture.bucket, crop=(1, 0, 17, 16)))
    keys = [
        store.latent_key(picture, False), store.latent_key(picture, True), store.latent_key(moved, False),
        store.latent_key(replace(picture, hash="0" * 64), False), other.latent_key(picture, False),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert store.latent_key(replace(picture, caption="z", rel="q", path=Path("r")), False) == keys[0]
    assert len({store.text_key("a"), store.text_key("b"), other.text_key("a")}) == 3


def test_only_what_is_missing_is_encoded(tmp_path: Path, parts, pictures, monkeypatch) -> None:
    calls = []
    encode = FAMILY.encode_pictures
    monkeypatch.setattr(type(FAMILY), "encode_pictures", lambda s, p, x: calls.append(1) or encode(p, x))
    cache(tmp_path, parts).fill(pictures[:3], [], False, lambda *a: None)
    assert len(calls) == 3
    cache(tmp_path, parts).fill(pictures, [], False, lambda *a: None)
    assert len(calls) == 5


def test_progress_counts_to_the_end(tmp_path: Path, parts, pictures) -> None:
    seen = []
    cache(tmp_path, parts).fill(pictures, ["x", "y"], False, lambda *a: seen.append(a))
    assert ("caching latents", 5, 5) in seen and ("caching text", 2, 2) in seen


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    store = TensorStore(tmp_path)
    store.put("ab" * 32, {"x": torch.arange(4.0)})
    path = store.path("ab" * 32)
    path.write_bytes(path.read_bytes()[:-3] if damage is None else damage)
    fresh = TensorStore(tmp_path)
    assert fresh.get("ab" * 32) is None and not path.exists()


def test_memory_is_bounded(tmp_path: Path) -> None:
    store = TensorStore(tmp_path, memory_bytes=100)
    for n in range(5):
        store.put(f"{n:064x}", {"x": torch.full((10,), float(n))})
    assert len(store._memory) == 2
    assert all(float(store.get(f"{n:064x}")["x"][0]) == n for n in range(5))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_mask_lies_over_the_latents_as_the_picture_does(tmp_path: Path, parts, pictures) -> None:
    """Found beside the picture at launch, scaled, cropped and mirrored with it; a changed one is refused."""
    import hashlib

    from PIL import Image

    from loratui.dataset.masks import MaskFinder
    from loratui.dataset.scan import SUFFIXES
    from loratui.dataset.scan import Picture as Scanned
    from loratui.errors import DatasetError
    from loratui.project.manifest import MASK_ENDING, rows

    picture = next(p for p in pictures if p.bucket.scaled != p.bucket.size)
    width, height = picture.size
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    path = picture.path.with_name(picture.path.stem + MASK_ENDING)
    mask.save(path)
    place = picture.path.parent
    found = MaskFinder(SUFFIXES).of(picture.path)
    scanned = Scanned(picture.path, picture.rel, width, height, "c", None, 1, place, mask=found)
    assert "mask" not in rows((scanned,), kit.tiny_config())[0]
    row = rows((scanned,), kit.tiny_config(objective__masked=True))[0]
    assert row["mask"] == str(path)
    held = replace(picture, mask=path, mask_hash=row["mask_hash"])
    store = cache(tmp_path, parts)
    size = (picture.bucket.height // 2, picture.bucket.width // 2)
    one = store.mask(held, False, size)
    assert one.shape == size and one[:, 0].min() > 0.95 and one[:, -1].max() < 0.05
    assert torch.equal(store.mask(held, True, size), one.flip(-1))
    assert torch.equal(store.mask(picture, False, size), torch.ones(size))
    Image.new("L", (width, height), 9).save(path)
    assert torch.equal(cache(tmp_path, parts).mask(held, False, size), one)
    with pytest.raises(DatasetError, match="changed"):
        cache(tmp_path / "other", parts).mask(held, False, size)
    assert row["mask_hash"] != hashlib.sha256(path.read_bytes()).hexdigest()


def test_in_memory_alone_nothing_is_written_and_all_is_kept(tmp_path: Path, parts, pictures) -> None:
    disk = cache(tmp_path, parts)
    disk.fill(pictures, ["a", "b"], True, lambda *a: None)
    folder = tmp_path / "memory"
    alone = Cache(folder, FAMILY, parts, torch.device("cpu"), writes=False)
    alone._latents._room = alone._text._room = 0  # the bound is that of copies
    told = []
    alone.fill(pictures, ["a", "b"], True, lambda *a: told.append(a))
    assert ("caching latents", 10, 10) in told and ("caching text", 2, 2) in told
    told.clear()
    alone.fill(pictures, ["a", "b"], True, lambda *a: told.append(a))
    assert told == [] and not folder.exists()
    for picture in pictures:
        for a, b in zip(alone.latents(picture, True), disk.latents(picture, True), strict=True):
            assert torch.equal(a, b)
    assert torch.equal(alone.condition("a")["prompt_embeds"], disk.condition("a")["prompt_embeds"])


def test_a_resume_may_change_where_the_caches_are(tmp_path: Path, tiny_sd15: Path) -> None:
    """To the same bytes, and said."""
    import shutil

    changes = {"optimizer__steps": 4, "saving__every": 2, "data__flip": True}
    runs = {}
    for where in ("disk", "memory"):
        config = kit.tiny_config(**changes, data__cache=where)
        runs[where] = kit.make_run(tmp_path / where, tiny_sd15, config, "r")
        assert kit.run_job_here(runs[where])[-1]["state"] == "finished"
    assert not (tmp_path / "memory" / ".loratui" / "cache").exists()
    last = "checkpoints/step-000004/lora.safetensors"
    hashes = {kit.tensor_hash(run.path / last) for run in runs.values()}
    shutil.rmtree(runs["disk"].checkpoints_dir / "step-000004")
    text = runs["disk"].config_path.read_text()
    runs["disk"].config_path.write_text(text.replace('cache = "disk"', 'cache = "memory"'))
    events = kit.run_job_here(runs["disk"])
    assert any("data.cache" in e["message"] for e in events if e["kind"] == "warning")
    assert hashes == {kit.tensor_hash(runs["disk"].path / last)}
