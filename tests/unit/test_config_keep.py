"""Presets of the user's own: what is written, what they build on, and the command that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_kit import project

from loratui import cli
from loratui.config.keep import About, keep_path, keep_preset, parent_of
from loratui.config.load import as_dict
from loratui.config.presets import load_preset, resolve
from loratui.errors import ConfigError


@pytest.fixture(autouse=True)
def own_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A config folder of its own."""
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))


@pytest.mark.parametrize("name", ["", "a b", "../x", "x.toml", ".hidden", "ä", "demo", "x" * 90])
def test_names_that_no_preset_can_have(name: str, tmp_path: Path) -> None:
    """Nothing leaves the folder, and nothing hides a preset that comes with loratui."""
    with pytest.raises(ConfigError):
        keep_path(name, tmp_path)


@pytest.mark.parametrize("base", ["demo", "sdxl-style-prodigy", "sd15-character-6gb", None])
def test_what_is_kept_resolves_to_the_same_settings(base: str | None, tmp_path: Path) -> None:
    """Whatever it builds on; only what differs is written; texts with quotes come back."""
    preset = load_preset(base) if base else None
    config = resolve(preset, {"rank": 5, "samples.prompts": ('a "b" \\', "ü"), "saving.name": "x"})
    target = keep_path("mine", tmp_path)
    about = About('a "title"', "for tests", "style", "sd15", 8)
    kept = keep_preset(target, about, preset, as_dict(config), tmp_path)
    assert as_dict(resolve(kept, {})) == as_dict(config)
    assert (kept.title, kept.about, kept.goal, kept.family) == ('a "title"', "for tests", "style", "sd15")
    assert kept.memory_gib == 8 and kept.extends == (base or "")
    assert len([line for line in target.read_text().splitlines() if line.startswith("rank")]) == 1
    assert target.read_text().count("=") <= 6 + 3 + (base is None) * 3


def test_what_a_preset_may_build_on(tmp_path: Path) -> None:
    """Not on itself, and one for all projects on none of a single project."""
    own = tmp_path / "presets" / "own.toml"
    own.parent.mkdir()
    own.write_text('[preset]\nextends = "demo"\n[network]\nrank = 3\n')
    preset = load_preset("own", tmp_path)
    assert parent_of(preset, keep_path("next", tmp_path), tmp_path) == preset
    for target in (own, keep_path("everywhere", None)):
        found = parent_of(preset, target, tmp_path)
        assert found is not None and found.name == "demo"


def test_presets_save(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For all projects or for one; replaced only with --force; what is wrong is said and not written."""
    root = project(tmp_path / "p", 1)
    command = ["presets", "demo", "--set", "rank=3", "--save", "mine", "--json"]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(tmp_path / "config" / "presets" / "mine.toml")
    assert found["values"]["network.rank"] == 3 and found["extends"] == "demo" and found["family"] == "sd15"
    assert cli.main(command) == 2 and "--force" in capsys.readouterr().err
    assert cli.main([*command, "--force"]) == 0
    assert cli.main([*command, "--project", str(root)]) == 0
    assert (root / "presets" / "mine.toml").is_file()
    assert cli.main(["presets", "demo", "--set", "rank=-3", "--save", "other"]) == 2
    assert not (tmp_path / "config" / "presets" / "other.toml").exists()
