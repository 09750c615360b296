"""Fuzzed TOML as preset, loratui.toml, run.toml and --set: read, or refused with file, line or path."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from loratui.config.docs import field_table
from loratui.config.load import load_run
from loratui.config.presets import load_preset, parse_set, resolve
from loratui.errors import LoratuiError
from loratui.project import Project

_VALUES = (
    "1", "-1", "0", "1e400", "nan", "inf", "true", '"x"', "[]", '["a"]', "[1]", "{a=1}", "9" * 5000,
    "1979-05-27", "0x", "07", '"\\uD800"', '"""', "1e-4", "'cosin'", "[[1]]", '"[a"', '"{"', "1_0", "-0.0",
    "2021-13-01", "0b" + "1" * 99,
)  # fmt: skip
_KEYS = ("name", "base", "extends", "path", "id", "steps", "title", "preset.extends")
_FILES = ("x.toml", "loratui.toml", "run.toml")


def _text(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(0, 12)):
        kind, path = rng.random(), rng.choice(list(field_table()))
        section, _, key = path.partition(".")
        if kind < 0.3:
            table = rng.choice(
                [section, "preset", "project", "overrides", "run", "sources", f"{section}x", ""]
            )
            lines.append(f"[{table}]")
        elif kind < 0.4:
            lines.append("[[sources]]")
        elif kind < 0.9:
            lines.append(f"{rng.choice([path, key, key + 's', *_KEYS])} = {rng.choice(_VALUES)}")
        else:
            codes = (rng.choice([rng.randint(0, 255), rng.randint(32, 126), 0x202E]) for _ in range(9))
            lines.append("".join(map(chr, codes)))
    return "\n".join(lines)


def _refused(folder: Path, rng: random.Random, number: int) -> bool:
    """Whether a text was refused; what refuses it names file, line or path."""
    words = _text(rng)
    if number % 4 == 3:
        try:
            resolve(None, parse_set(words.splitlines()[:4]))
        except LoratuiError as error:
            assert error.problems and all(p.path or p.where for p in error.problems), words
            return True
        return False
    file = folder / _FILES[number % 4]
    file.write_bytes(words.encode() if rng.random() < 0.95 else rng.randbytes(40))
    try:
        if number % 4 == 0:
            resolve(load_preset(str(file)), {})
        elif number % 4 == 1:
            Project.open(folder).resolve()
        else:
            load_run(file)
    except LoratuiError as error:
        said = error.message + " ".join(map(str, error.problems))
        assert file.name in said or any(p.path for p in error.problems), (words, said)
        return True
    return False


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_fuzzed_settings_are_read_or_refused_clearly(tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    refused = sum(_refused(tmp_path, rng, number) for number in range(count))
    assert 0.5 * count < refused < count
