"""What the plan's panel says of new tokens, alone and beside a network."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from rich.style import Style

from loratui.project.demo import make_demo
from loratui.project.start import assess
from loratui.ui.panels.plan import plan_rows
from loratui.ui.theme import Palette


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("alone", [True, False])
def test_new_tokens(tmp_path: Path, alone: bool, width: int) -> None:
    said = rows_of(tmp_path, width, {"network.tokens": 4, "network.tokens_only": alone})
    assert "4 new tokens, 640 numbers" in said
    assert ("none: the tokens alone" in said) == alone
    assert ("lora rank 16" in said) == (not alone)
    assert ("129 layers" in said) == (not alone)
    assert all(len(line) <= width for line in said.splitlines())


def test_a_network_without_new_tokens(tmp_path: Path) -> None:
    said = rows_of(tmp_path, 80, {})
    assert "token" not in said
    assert "lora rank 16" in said


def rows_of(folder: Path, width: int, changes: dict[str, Any]) -> str:
    project = make_demo(folder / "d")
    plan = assess(project, project.resolve(overrides=changes)).plan
    plain = Palette(**{field.name: Style() for field in fields(Palette)})
    rows = plan_rows(plan, width, plain)
    return "\n".join("".join(words for words, _ in row) for row in rows)
