"""The settings as a table: type, default, range and help of each, read once from the schema itself.

The help is the docstring under the field in schema/, so the form, `loratui config schema` and the
messages of `load` all say the same.
"""

from __future__ import annotations

import ast
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from loratui.config import schema

Kind = Literal["int", "float", "bool", "str", "choice", "list", "ints"]


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One setting.

    Attributes:
        path: dotted (`network.rank`).
        section: `network`.
        key: `rank`.
        kind: what values it takes.
        default: the value when nothing sets it.
        help: one or two sentences, with units.
        choices: the allowed values of a choice, else empty.
        minimum: smallest allowed number, or None.
        maximum: largest allowed number, or None.
        short: the everyday name that `--set` also takes, or empty.
    """

    path: str
    section: str
    key: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    short: str = ""


@cache
def sections() -> dict[str, type]:
    """Section name -> its dataclass, in order."""
    hints = get_type_hints(schema.RunConfig)
    return {f.name: hints[f.name] for f in fields(schema.RunConfig)}


@cache
def section_docs() -> dict[str, str]:
    """Section name -> one sentence on it."""
    return {name: (kind.__doc__ or "").strip() for name, kind in sections().items()}


@cache
def field_table() -> dict[str, FieldInfo]:
    """Dotted path -> `FieldInfo`, in the order of the schema."""
    helps = _attribute_docs()
    shorts = {path: short for short, path in schema.SHORT_NAMES.items()}
    table: dict[str, FieldInfo] = {}
    for section, kind in sections().items():
        hints = get_type_hints(kind)
        for f in fields(kind):
            path = f"{section}.{f.name}"
            allowed = schema.CHOICES.get(path) or schema.choices(hints[f.name])
            default = f.default if f.default is not MISSING else None
            low, high = schema.RANGES.get(path, (None, None))
            table[path] = FieldInfo(
                path,
                section,
                f.name,
                _kind(hints[f.name], allowed),
                default,
                helps.get((kind.__name__, f.name), ""),
                allowed,
                low,
                high,
                shorts.get(path, ""),
            )
    return table


def docs() -> dict[str, str]:
    """Dotted path -> help text."""
    return {path: info.help for path, info in field_table().items()}


def _kind(hint: Any, allowed: tuple[str, ...]) -> Kind:
    if allowed:
        return "choice"
    kinds: dict[Any, Kind] = {
        bool: "bool", int: "int", float: "float", str: "str", tuple[int, ...]: "ints"
    }  # fmt: skip
    return kinds.get(hint, "list")


@cache
def _attribute_docs() -> dict[tuple[str, str], str]:
    """(class, attribute) -> the string literal that follows the attribute in the schema's files."""
    files = sorted(Path(schema.__file__).parent.glob("*.py"))
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    found: dict[tuple[str, str], str] = {}
    for node in nodes:
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
                found[node.name, here.target.id] = " ".join(after.value.value.split())
    return found


def json_schema() -> dict[str, Any]:
    """JSON Schema of the sections, for editors that complete and check TOML."""
    kinds = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "choice": "string"}
    properties: dict[str, Any] = {}
    for section, text in section_docs().items():
        keys: dict[str, Any] = {}
        for info in field_table().values():
            if info.section != section:
                continue
            entry: dict[str, Any] = {"description": info.help}
            if info.kind in {"list", "ints"}:
                item = {"type": "string" if info.kind == "list" else "integer"}
                entry |= {"type": "array", "items": item, "default": list(info.default)}
            else:
                entry |= {"type": kinds[info.kind], "default": info.default}
            if info.choices:
                entry["enum"] = list(info.choices)
            bounded = entry.get("items", entry)
            if info.minimum is not None:
                exclusive = info.path in schema.POSITIVE
                bounded["exclusiveMinimum" if exclusive else "minimum"] = info.minimum
            if info.maximum is not None:
                bounded["maximum"] = info.maximum
            keys[info.key] = entry
        properties[section] = {
            "type": "object",
            "description": text,
            "properties": keys,
            "additionalProperties": False,
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "loratui settings",
        "type": "object",
        "properties": properties,
    }
