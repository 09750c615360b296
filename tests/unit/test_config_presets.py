"""Presets: what ships loads and plans, `extends`, places of mistakes, who hides whom."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from loratui.config.presets import differences, list_presets, load_preset, preset_paths, resolve
from loratui.config.user import UserConfig, load_user_config
from loratui.errors import ConfigError
from loratui.families.spec import FAMILIES
from loratui.plan.memory import estimate
from loratui.plan.sizes import sizes
from loratui.plan.smaller import SPARE


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config" / "presets").mkdir(parents=True)
    return tmp_path / "config"


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)
    return folder / f"{name}.toml"


@pytest.mark.parametrize("name", sorted(preset_paths()))
def test_a_shipped_preset_is_whole(name: str) -> None:
    preset = load_preset(name)
    config = resolve(preset, {})
    assert preset.title
    assert preset.about
    assert preset.goal
    assert preset.family in {f.name for f in FAMILIES}
    assert config.optimizer.steps > config.optimizer.warmup_steps
    # every number of ours names its source or says that it is derived; a general line on top counts for all
    head = preset.text.split("[preset]")[0]
    assert re.search(r"Source|derived|As |recipe", head), f"{name} does not say where its numbers come from"


def test_there_are_presets_for_every_family_and_a_demo() -> None:
    presets, problems = list_presets()
    assert problems == []
    assert {p.family for p in presets} >= {f.name for f in FAMILIES}
    assert "demo" in {p.name for p in presets}
    assert len(presets) >= 18
    assert {p.goal for p in presets} >= {"character", "style", "object", "concept", "clothing", "one image"}
    assert {p.memory_gib for p in presets} >= {6, 8, 12, 16, 24, 48}


def test_every_number_of_a_preset_says_where_it_is_from() -> None:
    """A comment on the line, or a head that says all numbers are derived or from one recipe."""
    for name, path in preset_paths().items():
        preset = load_preset(name)
        head = preset.text.split("[preset]")[0]
        body = preset.text.split("[preset]")[1].partition("\n[")[2]
        for line in body.splitlines():
            if re.match(r"\w+ = [0-9]", line):
                assert "#" in line or re.search(r"Source|derived|recipe", head), f"{path}: {line}"


@pytest.mark.parametrize("name", sorted(preset_paths()))
def test_a_preset_fits_the_card_that_it_names(name: str) -> None:
    """By the plan's rough estimate, with the twentieth to spare that repairs plan with."""
    preset = load_preset(name)
    config = resolve(preset, {})
    config = replace(config, model=replace(config.model, family=preset.family))
    size = sizes(None, preset.family, config.network)
    if not preset.memory_gib or size is None:
        return
    assert estimate(config, size, config.data.resolution**2).total_gib <= SPARE * preset.memory_gib


def test_two_presets_compared() -> None:
    rows = differences(load_preset("sd15-character"), load_preset("sd15-character-8gb"))
    assert ("data.batch_size", 2, 1) in rows and ("optimizer.accumulation", 1, 2) in rows
    assert differences(load_preset("demo"), load_preset("demo")) == []


def test_extends_takes_over_and_overrides() -> None:
    base, small = load_preset("sd15-character"), load_preset("sd15-character-8gb")
    assert small.values["network.rank"] == base.values["network.rank"]
    assert (base.values["data.batch_size"], small.values["data.batch_size"]) == (2, 1)
    assert small.values["memory.gradient_checkpointing"] is True
    assert small.places["data.batch_size"].startswith(str(small.path))
    assert small.places["network.rank"].startswith(str(base.path))


def test_a_circle_of_presets_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "presets", "a", '[preset]\nextends = "b"\n')
    write(tmp_path / "presets", "b", '[preset]\nextends = "a"\n')
    with pytest.raises(ConfigError, match="a > b > a"):
        load_preset("a", tmp_path)


def test_mistakes_in_a_preset_name_file_and_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "presets",
        "bad",
        "[preset]\ntitel = 'x'\nmemory_gib = 'much'\n\n[network]\nrnk = 3\n\n[data]\nresolution = 'big'\n",
    )
    with pytest.raises(ConfigError) as caught:
        load_preset("bad", tmp_path)
    texts = [str(p) for p in caught.value.problems]
    assert [t.split(": ")[0] for t in texts] == [f"{path}:{n}" for n in (2, 3, 6, 9)]
    assert "Did you mean `title`?" in texts[0]
    assert "Did you mean `network.rank`?" in texts[2]
    presets, problems = list_presets(tmp_path)
    assert len(problems) == 4, "one broken preset does not hide the others"
    assert len(presets) >= 6


def test_rules_across_fields_name_the_line_of_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path / "presets", "odd", "[data]\nresolution = 100\n")
    with pytest.raises(ConfigError) as caught:
        resolve(load_preset("odd", tmp_path), {})
    assert str(caught.value.problems[0]).startswith(f"{path}:2: data.resolution")


def test_the_project_hides_the_user_who_hides_what_ships(tmp_path: Path, own_config: Path) -> None:
    write(own_config / "presets", "demo", "[network]\nrank = 2\n")
    assert load_preset("demo").values == {"network.rank": 2}
    write(tmp_path / "presets", "demo", "[network]\nrank = 3\n")
    assert load_preset("demo", tmp_path).values == {"network.rank": 3}


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("sd15-charakter")
    assert "sd15-character" in caught.value.advice
    with pytest.raises(ConfigError, match="no preset file"):
        load_preset(str(tmp_path / "none.toml"))


def test_a_preset_by_path(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", '[preset]\nextends = "demo"\n[network]\nrank = 5\n')
    preset = load_preset(str(path))
    assert (preset.name, preset.values["network.rank"], preset.values["optimizer.steps"]) == ("mine", 5, 600)


def test_user_settings(own_config: Path) -> None:
    assert load_user_config() == UserConfig()
    (own_config / "config.toml").write_text('color = "256"\n[jobs]\npython = "/x/python"\n')
    assert load_user_config() == UserConfig(jobs_python="/x/python", color="256")
    (own_config / "config.toml").write_text('colour = "256"\npictures = "neon"\ntheme = 3\n')
    with pytest.raises(ConfigError) as caught:
        load_user_config()
    assert [p.where.rsplit(":", 1)[1] for p in caught.value.problems] == ["1", "2", "3"]
    assert "Did you mean `color`?" in str(caught.value.problems[0])
