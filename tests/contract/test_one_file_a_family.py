"""A family is one file and one line: shared code and shared tests of the package name none of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import loratui
from loratui.families.spec import FAMILIES, NAMES, FamilySpec

PACKAGE = Path(loratui.__file__).parent
TESTS = Path(__file__).parents[1]
FLOW = [spec for spec in FAMILIES if spec.flow]
REGISTER = PACKAGE / "families" / "spec.py"
EVERYBODYS = [TESTS / "conftest.py", *sorted(TESTS.glob("*_kit.py"))]
POINTERS = {"families/_template.py": "names whole families to read, as `sd3.py`"}


def shared() -> list[Path]:
    """What a new family must leave alone: all but families, and modules that are called after one."""
    found = [p for kind in ("*.py", "*.toml") for p in PACKAGE.rglob(kind)]
    return [p for p in found if not is_a_familys(p) and p.relative_to(PACKAGE).as_posix() not in POINTERS]


def is_a_familys(path: Path) -> bool:
    """Its file, or one of its own beside it: `qwen_vae.py`."""
    inside = path.is_relative_to(REGISTER.parent)
    return inside and any(path.stem == name or path.stem.startswith(f"{name}_") for name in NAMES)


def mentions(text: str, spec: FamilySpec) -> list[str]:
    """Lines that name a family: by its name, its title or the beginning of its pipelines' names."""
    words = [re.escape(spec.name), re.escape(spec.title)]
    words += [re.escape(p.removesuffix("Pipeline")) for p in spec.pipelines]
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(words)})(?![\w-])|{re.escape(spec.title)} \w")
    return [line.strip() for line in text.splitlines() if pattern.search(line)]


@pytest.mark.parametrize("spec", FLOW, ids=[spec.name for spec in FLOW])
def test_nothing_shared_names_it(spec: FamilySpec) -> None:
    for path in [*shared(), *EVERYBODYS]:
        found = mentions(path.read_text(encoding="utf-8"), spec)
        if path == REGISTER:
            assert found == [f'"{spec.name}",'], "one line, its name"
        else:
            assert not found, f"{path}: {found}"


def test_it_sees_what_it_looks_for() -> None:
    """Each of what the last family changed outside of its file before this rule."""
    assert REGISTER in shared() and len(shared()) > 300
    for spec in FLOW:
        start = spec.pipelines[0].removesuffix("Pipeline")
        for line in (f'if family == "{spec.name}":', f"# as {spec.title} does", f'    "{start}": "x",',
                     f'FLOW = ("a", "{spec.name}")', f'load("{spec.name}")'):  # fmt: skip
            assert mentions(f"x = 1\n{line}\n", spec) == [line.strip()]
