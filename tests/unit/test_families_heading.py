"""The head of a family's file: what is wrong in it is said with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratui.families import spec
from loratui.families.spec import FAMILIES, read_spec
from loratui.weights import layouts

PLAIN = 'title = "X"\nresolution = 512\nlatent_factor = 8\nblocks = 3'
NAMES = '[names]\nblocks = { b = 2 }\nforms = { diffusers = ["peft"] }\ntable = "b.{n}.q c.{n}.q"'


def written(path: Path, content: str, end: str = "# ///\n") -> Path:
    """A family's file with this content as its head."""
    lines = "".join(f"# {line}".rstrip() + "\n" for line in content.split("\n"))
    path.write_text(f'"""A family."""\n\n# /// family\n{lines}{end}\nimport nothing_like_it\n')
    return path


def test_a_head_becomes_a_row(tmp_path: Path) -> None:
    """Name and module are the file's; the file is not run."""
    row = read_spec(written(tmp_path / "mine.py", f"{PLAIN}\nlarger = {{ big = 9 }}\n\n{NAMES}"))
    assert (row.name, row.module, row.title, row.blocks) == ("mine", "loratui.families.mine", "X", 3)
    assert row.names is not None and row.names.forms == {"diffusers": ("peft",)}
    assert row.kinds == ("big",) and not row.flow and row.configs is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{PLAIN}\ncolour = 1", "`colour`"),
        (f'{PLAIN}\nname = "other"', "`name`"),
        (f"{PLAIN}\n{NAMES}\nturn = 1", "`turn`"),
        (f"{PLAIN}\n[[captions]]\ntokens = 1\nwidth = 1\nwords = 1", "`words`"),
        (f"{PLAIN}\n[[captions]]\ntokens = 1", "`width`"),
        (f"{PLAIN}\ncaptions = 5", r"\$\.captions"),
        (f"{PLAIN}\n[layers]\nattention = []\nmlp = []\nconv = []", "`conv`"),
        (f"{PLAIN}\n[layers]\nattention = []", "`mlp`"),
        (f'{PLAIN}\n[configs]\nvae = "{{}}"\nscheduler = "{{}}"', "`model_index`"),
        (PLAIN.replace("blocks = 3", ""), "`blocks`"),
        (f'{PLAIN}\npatch = "2"', r"\$\.patch"),
        (f'{PLAIN}\nfiles = "zip"', r"\$\.files"),
        (f"{PLAIN}\nmarks = [1]", r"\$\.marks"),
        (f"{PLAIN}\npatch = ", "no TOML"),
    ],
)
def test_what_is_wrong_is_named(content: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^mine\.py: .*{says}"):
        read_spec(written(tmp_path / "mine.py", content))


@pytest.mark.parametrize("end", ["", "\n# ///\n", "x = 1\n# ///\n"])
def test_a_head_without_an_end_is_refused(end: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.py: .*does not end"):
        read_spec(written(tmp_path / "mine.py", PLAIN, end))
    (tmp_path / "bare.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"bare\.py: there is no line"):
        read_spec(tmp_path / "bare.py")


def test_the_template_has_a_whole_head() -> None:
    row = read_spec(Path(spec.__file__).parent / "_template.py")
    assert row.flow and row.names is not None and row.packaged("vae")["_class_name"] == "AutoencoderKL"


@pytest.mark.parametrize("row", [f for f in FAMILIES if f.flow], ids=lambda f: f.name)
def test_heads_of_flow_families_are_whole(row: spec.FamilySpec) -> None:
    """Settings are JSON of the classes they say, and each target has a place in the table of names."""
    assert row.pipelines and row.marks and row.parameters and row.others and row.captions
    assert row.packaged("model_index")["_class_name"] in row.pipelines
    assert "Scheduler" in row.packaged("scheduler")["_class_name"]
    assert "Autoencoder" in row.packaged("vae")["_class_name"]
    parts = layouts.names_of(row.name).parts
    for ending in row.layers["full"]:
        assert any(f".{name}".endswith(ending) for name in parts), ending
