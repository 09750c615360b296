"""Which preset is proposed for which base, goal and card; that what is too large is made to fit; triggers."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from app_kit import picture
from hypothesis import given
from hypothesis import strategies as st

from loratui.config.checks import check
from loratui.config.presets import list_presets
from loratui.dataset.scan import Scan
from loratui.dataset.tokens import ClipTokens
from loratui.dataset.triggers import judge, propose
from loratui.families.detect import Detected
from loratui.plan.cards import SIZES_GIB, Card
from loratui.plan.fitting import shortage
from loratui.plan.plan import plan
from loratui.project import Project
from loratui.project.bases import offspring
from loratui.project.proposal import Answers, Proposing, count_pictures, make
from loratui.project.recommending import GOALS, made_for, recommend

PRESETS = list_presets()[0]
TOKENS = ClipTokens.shipped()


def chosen(family: str, goal: str, gib: float, kind: str = "", has: bool = True) -> str:
    """Name of the preset for these."""
    found = recommend(PRESETS, family, goal, Card(gib=gib), kind, lambda _name: has)  # type: ignore[arg-type]
    return found.preset.name if found is not None else ""


def test_the_preset_is_that_of_base_goal_and_card() -> None:
    """By hand, for the cases that matter."""
    assert [chosen("sdxl", "character", g) for g in (6, 8, 12, 15.99, 24, 48)] == [
        *("sdxl-character-6gb", "sdxl-character-8gb", "sdxl-character-12gb", "sdxl-character"),
        *("sdxl-character-24gb", "sdxl-character-24gb"),
    ]
    assert [chosen("sdxl", "style", g) for g in (8, 16, 24, 48)] == [
        "sdxl-style-8gb",
        "sdxl-style",
        "sdxl-style",
        "sdxl-style-48gb",
    ]
    assert [chosen("sd15", "character", g) for g in (6, 8, 12, 24)] == [
        *("sd15-character-6gb", "sd15-character-8gb", "sd15-character", "sd15-character")
    ]
    assert chosen("sdxl", "style", 16, "pony") == "pony-style"
    assert chosen("sdxl", "clothing", 16, "pony") == "sdxl-clothing"
    assert chosen("sdxl", "clothing", 16, "noobai-vpred") == "noobai-vpred-character"
    assert chosen("sd15", "one image", 24) == "sd15-one-image"
    assert (
        chosen("sd15", "style", 12) == "sd15-style-lokr"
        and chosen("sd15", "style", 12, has=False) == "sd15-style"
    )
    assert chosen("flux", "style", 24) == "flux-style"


@given(
    st.sampled_from(["sd15", "sd2", "sdxl"]), st.sampled_from(GOALS), st.floats(1, 100),
    st.sampled_from(["", "pony", "illustrious", "noobai-vpred", "anime"]),
)  # fmt: skip
def test_no_preset_of_another_offspring_or_prediction(family: str, goal: str, gib: float, kind: str) -> None:
    """Whatever is asked: of the family, not of a foreign offspring, v-prediction where the base has it."""
    found = recommend(PRESETS, family, goal, Card(gib=gib), kind)  # type: ignore[arg-type]
    if found is None:
        assert (family == "sd2" and goal not in {"character", "style"}) or kind == "noobai-vpred"
        return
    preset = found.preset
    assert preset.family == family and made_for(preset) in {"", kind}
    if family == "sdxl" and kind == "noobai-vpred":
        assert preset.values["objective.prediction"] == "v_prediction"


@pytest.mark.parametrize("name", [p.name for p in PRESETS if p.family])
def test_a_card_that_is_too_small_gets_changes_that_fit(name: str, tmp_path: Path) -> None:
    """For each preset and card: what the fix proposes is valid, and its own plan fits."""
    preset = next(p for p in PRESETS if p.name == name)
    project = Project(root=tmp_path, name="p", base="x/y", trigger="zwx", preset=name)
    for gib in SIZES_GIB:
        values = {"model.family": preset.family}
        short = shortage(plan(project, project.resolve(overrides=values), Scan()), gib)
        if short is None:
            continue
        assert short.needed_gib > 0.95 * gib and "GiB" in short.problem("it").advice
        assert short.fits, (name, gib, short)
        fixed = project.resolve(overrides={**values, **short.changes})
        assert shortage(plan(project, fixed, Scan()), gib) is None, (name, gib, short.changes)
        assert not [p for p in check(fixed) if p.severity == "error"]


def test_a_card_that_nothing_fits_is_said_to_be_so(tmp_path: Path) -> None:
    """Half a GiB is not even enough for torch."""
    project = Project(root=tmp_path, name="p", base="x/y", preset="sdxl-character")
    short = shortage(plan(project, project.resolve(overrides={"model.family": "sdxl"}), Scan()), 0.5)
    assert short is not None and not short.fits and "larger card" in short.problem("it").advice


def test_offspring_by_mark_and_by_name() -> None:
    """The v-pred mark counts whatever the name; names only within their family."""
    xl, old = Detected("sdxl", prediction="epsilon"), Detected("sd15", prediction="epsilon")
    for name, kind in (
        ("/m/ponyDiffusionV6XL.safetensors", "pony"),
        ("/m/waiNSFWIllustrious_v120.safetensors", "illustrious"),
        ("OnomaAIResearch/Illustrious-xl-early-release-v0", "illustrious"),
        ("/m/NoobAI-XL-Vpred-v1.0.safetensors", "noobai-vpred"),
        ("/m/noobaiXLNAIXL_epsilonPred11.safetensors", "illustrious"),
        ("/pony/sd_xl_base_1.0.safetensors", ""),
        ("/m/juggernautXL_v9.safetensors", ""),
    ):
        assert offspring(name, xl) == kind, name
    assert offspring("merge.safetensors", Detected("sdxl", prediction="v_prediction")) == "noobai-vpred"
    assert offspring("anything-v5.safetensors", old) == "anime" and offspring("pony.safetensors", old) == ""


@given(st.text(max_size=40))
def test_a_proposed_trigger_is_no_word_of_the_vocabulary(seed: str) -> None:
    """Two or three tokens, the same again, and rare to the judge."""
    word = propose(seed, TOKENS)
    assert word == propose(seed, TOKENS) and word.isalpha()
    assert TOKENS.count(word) in {2, 3} and judge(word, TOKENS).rare
    assert propose(seed, TOKENS, "style") == f"{word} style"


def test_a_trigger_of_known_words_is_found_out() -> None:
    """Each word of it is one token."""
    assert judge("red robot", TOKENS).known == ("red", "robot") and not judge("red robot", TOKENS).rare
    assert judge("zwx robot", TOKENS).rare


def test_an_archive_is_counted_planned_and_copied(tmp_path: Path) -> None:
    """Folder, zip and tar give the same plan; nothing is written before `make`, nothing stays unpacked."""
    folder, here = tmp_path / "cats", tmp_path / "new"
    folder.mkdir()
    here.mkdir()
    for number in range(5):
        picture(folder / f"{number}.png", seed=number)
        (folder / f"{number}.txt").write_text("zwx cat")
    with (
        zipfile.ZipFile(tmp_path / "cats.zip", "w") as zipped,
        tarfile.open(tmp_path / "cats.tar.gz", "w:gz") as tar,
    ):
        for file in sorted(folder.iterdir()):
            zipped.write(file, f"cats/{file.name}")
            tar.add(file, f"cats/{file.name}")
    plans = []
    for source in (folder, tmp_path / "cats.zip", tmp_path / "cats.tar.gz"):
        assert count_pictures(source) == 5
        proposing = Proposing(here)
        made = proposing.propose(
            Answers(pictures=str(source), trigger="zwx cat", card=Card(gib=8)), here / "p"
        )
        assert made.ready is not None and not made.errors
        plans.append((made.ready.plan.images, made.ready.plan.steps, made.ready.plan.buckets))
        assert not list(here.iterdir())
        project = make(made, here)
        proposing.close()
        assert len(project.scan().pictures) == 5 and project.preset == "demo"
        assert not list((here / "p").glob(".loratui-import*"))
        import shutil

        shutil.rmtree(here / "p")
    assert plans[0] == plans[1] == plans[2]


def test_what_is_not_there_keeps_it_from_starting(tmp_path: Path) -> None:
    """A base or pictures that are not there are errors that say what to do."""
    proposing = Proposing(tmp_path)
    made = proposing.propose(Answers(base="owner/name"), tmp_path / "p")
    assert ["loratui get owner/name" in p.advice for p in made.errors] == [True]
    made = proposing.propose(Answers(pictures="nowhere"), tmp_path / "p")
    assert [p.code for p in made.errors] == ["no-pictures"] and made.preset is not None
