"""What options do to what a captioner says, against arithmetic that is done again here."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import caption_kit as kit
import numpy as np
import pytest
import torch

from loratui.captioners.locate import locate
from loratui.captioners.spec import captioner_spec
from loratui.dataset.pixels import open_rgb


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def model(name: str) -> str:
        if name not in made:
            made[name] = kit.MAKERS[name](root / name)
        return str(made[name])

    return model


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return kit.pictures(tmp_path_factory.mktemp("pictures"), 6)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def load(name: str, model: str, **values: Any) -> Any:
    row = captioner_spec(name)
    assert row is not None
    return importlib.import_module(row.module).load(row.options(**values), locate(row, model))


def said(captioner: Any, paths: list[Path]) -> list[Any]:
    answers: list[Any] = captioner.caption([captioner.prepare(open_rgb(path)) for path in paths])
    return answers


# --- BLIP -------------------------------------------------------------------------------------------------


def tokens_of(captioner: Any, paths: list[Path]) -> torch.Tensor:
    """Token ids_BT that the model gave for these pictures, the start among them."""
    kept: list[torch.Tensor] = []
    inner = captioner.model.generate

    def generate(**arguments: Any) -> Any:
        kept.append(inner(**arguments))
        return kept[-1]

    captioner.model.generate = generate
    try:
        said(captioner, paths)
    finally:
        captioner.model.generate = inner
    return kept[0]


def likelihood(captioner: Any, paths: list[Path], ids_BT: torch.Tensor) -> list[float]:
    """Log probability of each caption, by a plain forward pass."""
    pixels = torch.stack([captioner.prepare(open_rgb(path)) for path in paths])
    with torch.inference_mode():
        seen = captioner.model.vision_model(pixels)[0]
        logits = captioner.model.text_decoder(input_ids=ids_BT, encoder_hidden_states=seen).logits
    steps_BT = logits[:, :-1].log_softmax(-1).gather(2, ids_BT[:, 1:, None])[:, :, 0]
    return [float(value) for value in steps_BT.sum(1)]


def test_more_beams_find_likelier_captions(models: Any, paths: list[Path]) -> None:
    exact = {"min_new_tokens": 4, "max_new_tokens": 4, "repetition_penalty": 1.0}
    found = {}
    for beams in (1, 32):
        captioner = load("blip", models("blip"), beams=beams, **exact)
        ids = tokens_of(captioner, paths)
        found[beams] = (ids.tolist(), likelihood(captioner, paths, ids))
    greedy, wide = found[1], found[32]
    assert all(b >= a - 1e-4 for a, b in zip(greedy[1], wide[1], strict=True)), (greedy[1], wide[1])
    assert greedy[0] != wide[0], "32 beams found nothing that greedy did not"


@pytest.mark.parametrize(("least", "most"), [(3, 3), (7, 7), (2, 9)])
def test_captions_are_as_long_as_asked(models: Any, paths: list[Path], least: int, most: int) -> None:
    captioner = load("blip", models("blip"), beams=1, min_new_tokens=least, max_new_tokens=most)
    ids = tokens_of(captioner, paths)
    for row in ids[:, 1:].tolist():
        ended = row.index(3) if 3 in row else len(row)  # 3 is the end
        assert least <= ended <= most, row


def test_the_shortest_length_keeps_the_end_away(models: Any, paths: list[Path]) -> None:
    """A model that ends at once unless it may not."""
    captioner = load("blip", models("blip"), beams=1, min_new_tokens=0, max_new_tokens=8)
    bias = captioner.model.text_decoder.cls.predictions.bias
    with torch.no_grad():
        bias[3] += 50.0
    assert tokens_of(captioner, paths)[:, 1].tolist() == [3] * len(paths)
    bound = load("blip", models("blip"), beams=1, min_new_tokens=6, max_new_tokens=8)
    with torch.no_grad():
        bound.model.text_decoder.cls.predictions.bias[3] += 50.0
    for row in tokens_of(bound, paths)[:, 1:].tolist():
        assert row.index(3) == 6


def test_nucleus_draws_by_its_seed(models: Any, paths: list[Path]) -> None:
    common = {"sampling": "nucleus", "min_new_tokens": 6, "max_new_tokens": 6, "repetition_penalty": 1.0}

    def drawn(seed: int, top_p: float) -> list[list[int]]:
        captioner = load("blip", models("blip"), seed=seed, top_p=top_p, **common)
        ids: list[list[int]] = tokens_of(captioner, paths).tolist()
        return ids

    assert drawn(1, 0.9) == drawn(1, 0.9) != drawn(2, 0.9)
    # of the smallest share only the likeliest word is left: greedy
    greedy = load("blip", models("blip"), beams=1, min_new_tokens=6, max_new_tokens=6, repetition_penalty=1.0)
    assert drawn(1, 0.01) == drawn(2, 0.01) == tokens_of(greedy, paths).tolist()


# --- CLIP -------------------------------------------------------------------------------------------------

FACETS = ("lighting", "medium", "mood")


def chances(captioner: Any, path: Path) -> dict[str, list[float]]:
    """Facet -> probability of each of its labels, from the model's own parts."""
    pixels = captioner.prepare(open_rgb(path))[None]
    model = captioner.loaded.model
    with torch.inference_mode():
        image = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)[0]
        out = {}
        for facet in FACETS:
            labels = [label for name, label in captioner.labels if name == facet]
            texts = model.encode_text(captioner.loaded.tokenize(labels))
            texts = torch.nn.functional.normalize(texts, dim=-1)
            out[facet] = (model.logit_scale.exp() * texts @ image).softmax(0).tolist()
    return out


def test_fast_takes_the_best_of_each_facet(models: Any, paths: list[Path]) -> None:
    captioner = load("clip", models("clip"), method="fast", facets=FACETS, top_k=2, threshold=0.99)
    for path, answer in zip(paths[:3], said(captioner, paths[:3]), strict=True):
        assert [t.facet for t in answer.tags] == ["lighting"] * 2 + ["medium"] * 2 + ["mood"] * 2
        wanted = chances(captioner, path)
        for facet in FACETS:
            got = [t.confidence for t in answer.tags if t.facet == facet]
            assert got == pytest.approx(sorted(wanted[facet], reverse=True)[:2], abs=2e-4)


def test_tags_are_those_above_the_threshold(models: Any, paths: list[Path]) -> None:
    every = load("clip", models("clip"), method="tags", facets=FACETS, top_k=10_000, threshold=0.0)
    full = said(every, paths[:2])
    for answer in full:
        assert len(answer.tags) == len(every.labels)
        for facet in FACETS:
            assert sum(t.confidence for t in answer.tags if t.facet == facet) == pytest.approx(1.0, abs=0.02)
    middle = sorted(t.confidence for t in full[0].tags)[len(full[0].tags) // 2]
    for threshold, top_k in ((middle, 10_000), (middle, 3), (1.0, 10_000)):
        some = load("clip", models("clip"), method="tags", facets=FACETS, top_k=top_k, threshold=threshold)
        for answer, whole in zip(said(some, paths[:2]), full, strict=True):
            wanted = []
            for facet in FACETS:
                ranked = [t for t in whole.tags if t.facet == facet][:top_k]
                wanted += [t for t in ranked if t.confidence >= threshold + 6e-5]
            got = [t for t in answer.tags if t.confidence >= threshold + 6e-5]  # rounding at the very edge
            assert got == wanted and all(t.confidence >= threshold - 6e-5 for t in answer.tags)


def test_best_chains_what_fits_together(models: Any, paths: list[Path]) -> None:
    """Each phrase is the one that brings the sentence nearest to the picture; none is added that does not."""
    options = {"method": "best", "facets": FACETS, "preselect": 12, "phrases": 4}
    captioner = load("clip", models("clip"), **options)
    model = captioner.loaded.model

    def fit(texts: list[str], image: torch.Tensor) -> list[float]:
        with torch.inference_mode():
            made = torch.nn.functional.normalize(model.encode_text(captioner.loaded.tokenize(texts)), dim=-1)
            return [float(value) for value in made @ image]

    for path, answer in zip(paths[:3], said(captioner, paths[:3]), strict=True):
        with torch.inference_mode():
            pixels = captioner.prepare(open_rgb(path))[None]
            image = torch.nn.functional.normalize(model.encode_image(pixels), dim=-1)[0]
        labels = [label for _, label in captioner.labels]
        alone = fit(labels, image)
        left = sorted(labels, key=lambda label: -alone[labels.index(label)])[:12]
        chain: list[str] = []
        best = -1.0
        while left and len(chain) < 4:
            scores = fit([", ".join([*chain, label]) for label in left], image)
            top = max(range(len(left)), key=scores.__getitem__)
            if scores[top] <= best:
                break
            best = scores[top]
            chain.append(left.pop(top))
        assert [t.text for t in answer.tags] == chain and 1 <= len(chain) <= 4


# --- WD ---------------------------------------------------------------------------------------------------


def scores(models: Any, captioner: Any, path: Path) -> dict[str, float]:
    """Tag -> sigmoid of the graph's map of the mean colour, in numpy."""
    weight = np.load(Path(models("wd")) / "weight.npy")
    logits = captioner.prepare(open_rgb(path)).mean(axis=(0, 1)) @ weight
    return dict(zip([name for name, _ in kit.TAGS], 1 / (1 + np.exp(-logits)), strict=True))


GENERAL = [name for name, category in kit.TAGS if category == 0]
CHARACTER = [name for name, category in kit.TAGS if category == 4]


def test_each_category_has_its_threshold(models: Any, paths: list[Path]) -> None:
    seen: set[str] = set()
    for general, character in ((0.35, 0.85), (0.85, 0.35), (0.0, 1.0), (1.0, 0.0)):
        captioner = load(
            "wd", models("wd"), general_threshold=general, character_threshold=character, spaces=False
        )
        for path, answer in zip(paths, said(captioner, paths), strict=True):
            by_name = scores(models, captioner, path)
            wanted = {n for n in GENERAL if by_name[n] > general}
            wanted |= {n for n in CHARACTER if by_name[n] > character}
            assert {t.text for t in answer.tags} == wanted
            seen |= wanted
            facets = [t.facet for t in answer.tags]
            assert facets == sorted(facets)  # character, then general
            for facet in set(facets):
                sure = [t.confidence for t in answer.tags if t.facet == facet]
                assert sure == sorted(sure, reverse=True)
            for tag in answer.tags:
                assert tag.confidence == pytest.approx(by_name[tag.text], abs=1e-3)
    assert seen == {*GENERAL, *CHARACTER}  # the thresholds have decided something for each


def test_the_largest_gap_cuts(models: Any, paths: list[Path]) -> None:
    captioner = load("wd", models("wd"), mcut=True, spaces=False)
    for path, answer in zip(paths, said(captioner, paths), strict=True):
        by_name = scores(models, captioner, path)
        wanted: set[str] = set()
        for names, floor in ((GENERAL, 0.0), (CHARACTER, 0.15)):
            ranked = sorted(names, key=by_name.__getitem__, reverse=True)
            gaps = [by_name[a] - by_name[b] for a, b in itertools.pairwise(ranked)]
            kept = ranked[: gaps.index(max(gaps)) + 1]
            wanted |= {name for name in kept if by_name[name] > floor}
        assert {t.text for t in answer.tags} == wanted


def test_order_spelling_rating_and_count(models: Any, paths: list[Path]) -> None:
    low = {"general_threshold": 0.0, "character_threshold": 0.0}
    first = said(load("wd", models("wd"), **low), paths)[0].tags
    last = said(load("wd", models("wd"), **low, characters_first=False), paths)[0].tags
    assert [t.facet for t in first] == ["character"] * 2 + ["general"] * 6
    assert [t.facet for t in last] == ["general"] * 6 + ["character"] * 2
    assert {t.text for t in first} == {
        "hatsune miku", "red robot", "1girl", "solo", "long hair", ">_<", "blue sky", "tree",
    }  # fmt: skip
    as_is = said(load("wd", models("wd"), **low, spaces=False), paths)[0].tags
    assert {t.text for t in as_is} == {*GENERAL, *CHARACTER}
    three = said(load("wd", models("wd"), **low, top_k=3), paths)[0].tags
    assert sorted(t.confidence for t in three) == sorted(t.confidence for t in first)[-3:]
    rated = load("wd", models("wd"), **low, rating=True, spaces=False)
    for path, answer in zip(paths, said(rated, paths), strict=True):
        by_name = scores(models, rated, path)
        (rating,) = (t for t in answer.tags if t.facet == "rating")
        assert rating.text == max(("general", "sensitive"), key=by_name.__getitem__)
