"""Projects: loratui.toml read with all problems, made, changed with its comments kept; the demo project."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loratui import demo
from loratui.errors import ConfigError, ProjectError
from loratui.project import Project
from loratui.project.demo import make_demo
from loratui.project.project import find_root, slug


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(path)
    return path


def test_a_new_project_reads_back(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png").with_suffix(".txt").write_text("sks cat")
    made = Project.create(
        tmp_path / "My Lora", "demo", "sks cat", tmp_path / "in", preset="demo", prompts=["{trigger}, red"]
    )
    project = Project.open(tmp_path / "My Lora")
    assert project == made
    assert (project.name, project.base, project.trigger, project.preset) == (
        "My-Lora",
        "demo",
        "sks cat",
        "demo",
    )
    assert project.prompts == ("{trigger}, red",)
    assert [p.rel for p in project.scan().pictures] == ["dataset/a.png"]
    assert project.resolve().optimizer.steps == 600
    assert project.resolve().model.base == "demo"


def test_pictures_that_lie_there_are_used_where_they_are(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "a.png")
    project = Project.create(tmp_path / "p", "demo")
    assert [s.path for s in project.sources] == ["."]
    assert [p.rel for p in project.scan().pictures] == ["a.png"]


def test_making_one_again_changes_nothing(tmp_path: Path) -> None:
    Project.create(tmp_path / "p", "demo", "x")
    before = (tmp_path / "p" / "loratui.toml").read_bytes()
    with pytest.raises(ProjectError, match="a project already"):
        Project.create(tmp_path / "p", "other", "y")
    assert (tmp_path / "p" / "loratui.toml").read_bytes() == before


def test_text_with_quotes_and_escapes_survives(tmp_path: Path) -> None:
    trigger = 'a "b" \\ \x1b]52;c;x\x07 \n猫'
    assert Project.create(tmp_path / "p", "demo", trigger).trigger == trigger
    assert b"\x1b" not in (tmp_path / "p" / "loratui.toml").read_bytes()


def test_a_local_base_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Project.create("p", "model").base == str(tmp_path / "model")
    assert Project.create("q", "owner/name").base == "owner/name"


@pytest.mark.parametrize(
    ("folder", "message", "advice"),
    [
        ("none", "does not exist", "loratui new"),
        ("empty", "no loratui project", "--base"),
        ("file", "is a file", ""),
    ],
)
def test_what_is_no_project_says_what_to_do(tmp_path: Path, folder: str, message: str, advice: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ProjectError, match=message) as caught:
        Project.open(tmp_path / folder)
    assert advice in caught.value.advice


def test_all_problems_of_loratui_toml_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "loratui.toml"
    path.write_text(
        "[project]\nnmae = 'x'\nprompts = 'one'\nbase = 3\n\n[[sources]]\npath = 'a'\nrepeats = 0\n"
        "[[sources]]\nrepeat = 2\n\n[override]\nlr = 1\n"
    )
    with pytest.raises(ProjectError) as caught:
        Project.open(tmp_path)
    found = {p.path: p for p in caught.value.problems}
    assert {k: p.where.rsplit(":", 1)[1] for k, p in found.items()} == {
        "override": "12",
        "project.nmae": "2",
        "project.prompts": "3",
        "project.base": "4",
        "sources.0.repeats": "8",
        "sources.1.repeat": "10",
        "sources.1": "9",
    }
    assert "Did you mean `name`?" in str(found["project.nmae"])
    assert "Did you mean [overrides]?" in str(found["override"])


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "loratui.toml").write_text("[project]\nname = unquoted\n")
    with pytest.raises(ProjectError, match=r"loratui\.toml:2"):
        Project.open(tmp_path)


def test_overrides_apply_on_top_and_their_mistakes_name_the_line(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", "demo", preset="demo")
    text = project.file.read_text() + 'lr = 2e-4\n"network.rank" = 4\n[overrides.samples]\nevery = 0\n'
    project.file.write_text(text)
    config = Project.open(project.root).resolve(overrides={"rank": "6"})
    assert (config.optimizer.lr, config.network.rank, config.samples.every) == (2e-4, 6, 0)
    project.file.write_text(text.replace("lr = 2e-4", "lrr = 2e-4"))
    with pytest.raises(ConfigError) as caught:
        Project.open(project.root).resolve()
    line = text[: text.index("lr = 2e-4")].count("\n") + 1
    assert str(caught.value.problems[0]).startswith(f"{project.file}:{line}: lrr")


def test_changes_keep_comments(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", "demo", "old", preset="demo")
    project.file.write_text(project.file.read_text().replace('trigger = "old"', 'trigger = "old"  # mine'))
    changed = project.update(trigger="new", prompts=["a", "b"], overrides={"optimizer.lr": 1e-3, "rank": 4})
    assert (changed.trigger, changed.prompts) == ("new", ("a", "b"))
    assert changed.overrides == {"optimizer.lr": 1e-3, "rank": 4}
    assert "# mine" in project.file.read_text()
    assert "# A loratui project" in project.file.read_text()
    again = changed.update(overrides={"rank": 5})
    assert again.overrides == {"rank": 5}
    assert again.add_source("more", 2).sources[-1].path == "more"
    assert "# mine" in project.file.read_text()


def test_a_read_only_project_file_cannot_be_changed_but_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.create(tmp_path / "p", "demo", "old")
    before = project.file.read_bytes()

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ProjectError, match="Permission denied"):
        project.update(trigger="new")
    assert project.file.read_bytes() == before
    assert {p.name for p in project.root.iterdir()} == {"loratui.toml", "dataset"}


def test_the_demo_project_is_made_once(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "d")
    assert (project.base, project.preset, project.trigger) == ("demo", "demo", demo.TRIGGER)
    found = project.scan(project.resolve().data)
    assert len(found.pictures) == 16
    assert found.problems == ()
    assert all(demo.TRIGGER in p.caption for p in found.pictures)
    assert make_demo(tmp_path / "d") == project
    Project.create(tmp_path / "other", "some/base")
    with pytest.raises(ProjectError, match="another project"):
        make_demo(tmp_path / "other")


def test_the_project_around_a_folder(tmp_path: Path) -> None:
    Project.create(tmp_path / "p", "demo")
    (tmp_path / "p" / "runs" / "x").mkdir(parents=True)
    assert find_root(tmp_path / "p" / "runs" / "x") == tmp_path / "p"
    assert find_root(tmp_path) is None


def test_slugs() -> None:
    assert slug("../My LoRA: 猫/x") == "My-LoRA-x"
    assert slug("\x1b]0;") == "0"
    assert slug("///") == "lora"
