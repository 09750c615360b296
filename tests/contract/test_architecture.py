"""The house rules that a reader cannot check by eye: sizes, imports at run time, registration."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import loratui

PACKAGE = Path(loratui.__file__).parent
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "open_clip")
LOOP = ("train/loop.py", "train")
"""The one function that may take 150 lines: the training loop."""


def loaded_after(imports: str) -> set[str]:
    """Top-level and dotted names in sys.modules of a fresh interpreter after `imports`."""
    code = f"{imports}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def in_package(*folders: str) -> list[str]:
    return [
        dotted(p) for p in MODULES if p.relative_to(PACKAGE).parts[0] in folders and p.name != "__main__.py"
    ]


def import_lines(names: list[str]) -> str:
    return "\n".join(f"import {n}" for n in names)


def test_ui_and_cli_load_no_torch() -> None:
    loaded = loaded_after(import_lines(in_package("ui", "cli")))
    assert not loaded & set(HEAVY)
    assert not [m for m in loaded if m.startswith(("loratui.train", "loratui.jobs"))]


def test_training_side_loads_no_textual() -> None:
    loaded = loaded_after(import_lines(in_package("train", "families", "captioners", "jobs", "optim")))
    assert not [
        m for m in loaded if m.split(".")[0] in {"textual", "textual_image"} or m.startswith("loratui.ui")
    ]


def test_the_first_frame_waits_for_little() -> None:
    """Half a second from the command to the room of pictures: all else is imported when it is needed."""
    loaded = loaded_after("import loratui.ui.app, loratui.ui.screens.dataset, loratui.ui.terminal")
    later = {"PIL", "numpy", "tomlkit", "tomllib", "filelock", "msgspec", "zipfile", "watchfiles", "psutil"}
    assert not loaded & later
    rooms = [m for m in loaded if m.startswith(("loratui.project", "loratui.config.", "loratui.cli"))]
    assert rooms == ["loratui.config.colours"]  # a page of names


def test_the_middle_loads_neither() -> None:
    names = in_package("config", "plan", "dataset", "project", "runs", "optim", "weights")
    loaded = loaded_after(import_lines(names))
    assert not loaded & {*HEAVY, "textual"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes(path: Path) -> None:
    """A module has at most 600 lines, a function at most 80, the training loop 150, app.py 300."""
    text = path.read_text("utf-8")
    name = path.relative_to(PACKAGE).as_posix()
    limit = 300 if name == "ui/app.py" else 600
    assert text.count("\n") <= limit, f"{name} has {text.count(chr(10))} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= (150 if (name, node.name) == LOOP else 80), (
                f"{name}:{node.lineno} {node.name}: {lines}"
            )


def test_most_modules_are_short() -> None:
    short = sum(p.read_text("utf-8").count("\n") < 400 for p in MODULES)
    assert short >= 0.9 * len(MODULES)


def test_no_pickle_of_ours() -> None:
    """torch.save, torch.load and pickle appear nowhere in the package.

    One module reads other people's pickles, without imports and in a process of its own.
    """
    reader, job = PACKAGE / "weights" / "pickled.py", PACKAGE / "jobs" / "unpickle.py"
    users = [p for p in MODULES if "weights.pickled" in p.read_text("utf-8")]
    assert users == [job]
    for path in MODULES:
        if path == reader:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "dill", "joblib", "shelve"} & {n.split(".")[0] for n in names}, path
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "torch"
            ):
                assert node.attr not in {"load", "save"}, f"{path}:{node.lineno}"


def test_every_family_row_names_a_module_that_exists() -> None:
    from importlib.util import find_spec

    from loratui.families.spec import FAMILIES

    assert len(FAMILIES) >= 2
    for row in FAMILIES:
        assert find_spec(row.module) is not None, row


def test_a_bare_exception_is_never_swallowed() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name | type(None)):
                wide = node.type is None or node.type.id in {"Exception", "BaseException"}
                assert not (wide and all(isinstance(b, ast.Pass) for b in node.body)), f"{path}:{node.lineno}"
