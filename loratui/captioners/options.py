"""The options of captioners as tables: type, default, range and help of each, read from `spec.py` itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from loratui.config.docs import FieldInfo, Kind
from loratui.config.load import convert
from loratui.config.schema import choices

_KINDS: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "str"}


def option_table(kind: type[Any]) -> dict[str, FieldInfo]:
    """Key -> `FieldInfo` of a dataclass of options, inherited ones last."""
    ranges = getattr(sys.modules[kind.__module__], "RANGES", {})
    hints = get_type_hints(kind)
    inherited = {
        f.name for base in kind.__mro__[1:] if hasattr(base, "__dataclass_fields__") for f in fields(base)
    }
    order = sorted(fields(kind), key=lambda f: f.name in inherited)
    helps: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        helps |= _docs_of(cls.__module__).get(cls.__name__, {})
    table: dict[str, FieldInfo] = {}
    for f in order:
        allowed = choices(hints[f.name])
        low, high = ranges.get(f.name, (None, None))
        default = f.default if f.default is not MISSING else None
        what: Kind = "choice" if allowed else _KINDS.get(hints[f.name], "list")
        table[f.name] = FieldInfo(
            f.name, "", f.name, what, default, helps.get(f.name, ""), allowed, low, high
        )
    return table


def read_options(kind: type[Any], values: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """An instance of `kind` from raw values, and key -> what is wrong with it; unknown keys are left."""
    good: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    table = option_table(kind)
    for key, value in values.items():
        if key not in table:
            continue
        try:
            good[key] = convert(table[key], value)
        except ValueError as error:
            wrong[key] = f"{error}."
    return kind(**good), wrong


def option_values(options: Any) -> dict[str, Any]:
    """Key -> value of each option, in the order of the table."""
    return {key: getattr(options, key) for key in option_table(type(options))}


def option_rows(kind: type[Any]) -> list[dict[str, Any]]:
    """The options as plain JSON."""
    rows = []
    for info in option_table(kind).values():
        row: dict[str, Any] = {"key": info.key, "type": info.kind, "default": info.default, "help": info.help}
        if info.choices:
            row["choices"] = list(info.choices)
        if info.minimum is not None:
            row["minimum"] = info.minimum
        if info.maximum is not None:
            row["maximum"] = info.maximum
        rows.append(row)
    return rows


@cache
def _docs_of(module: str) -> dict[str, dict[str, str]]:
    """Class -> attribute -> the string literal that follows the attribute in the module's source."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return {}
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for here, after in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(here, ast.AnnAssign)
                and isinstance(here.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found.setdefault(node.name, {})[here.target.id] = " ".join(after.value.value.split())
    return found
