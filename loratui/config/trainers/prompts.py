"""Sample prompts of sd-scripts: text files with ` --x` options, or TOML and JSON lists."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratui.errors import ConfigError

_LARGEST = 4 * 1024 * 1024
_OPTION = re.compile(r" --(?=[a-z]+(?:\s|$))")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One sample prompt.

    Attributes:
        text: the prompt.
        negative: the negative prompt.
        width: in px; 0 when it is not said.
        height: in px; 0 when it is not said.
        seed: of the noise; -1 when it is not said.
        guidance: classifier-free guidance; 0 when it is not said.
        steps: of the sampler; 0 when it is not said.
        sampler: as it is called there.
        unknown: options that have no meaning here.
    """

    text: str
    negative: str = ""
    width: int = 0
    height: int = 0
    seed: int = -1
    guidance: float = 0.0
    steps: int = 0
    sampler: str = ""
    unknown: tuple[str, ...] = ()


def parse_prompts(text: str) -> list[Prompt]:
    """The prompts of a text file, one a line; `#` begins a comment."""
    lines = (line.strip() for line in text.splitlines())
    return [_line(line) for line in lines if line and not line.startswith("#")]


def _line(line: str) -> Prompt:
    head, *options = _OPTION.split(line)
    found: dict[str, Any] = {}
    unknown: list[str] = []
    names = {
        "n": "negative",
        "w": "width",
        "h": "height",
        "d": "seed",
        "l": "guidance",
        "s": "steps",
        "ss": "sampler",
    }
    for option in options:
        key, _, value = option.partition(" ")
        name, value = names.get(key, ""), value.strip()
        try:
            if name in {"width", "height", "seed", "steps"}:
                found[name] = _whole(value)
            elif name == "guidance":
                found[name] = float(value)
            elif name:
                found[name] = value
            else:
                unknown.append(option.strip())
        except (ValueError, OverflowError):
            unknown.append(option.strip())
    return Prompt(head.strip(), unknown=tuple(unknown), **found)


def _whole(value: Any) -> int:
    number = int(value)
    if not 0 <= number < 2**63:
        raise ValueError(value)
    return number


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a .txt, .toml or .json file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path} is too large to be a list of prompts.", "Check the path.")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8.", "Convert it, then try again.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    suffix = path.suffix.lower()
    if suffix not in {".toml", ".json"}:
        return parse_prompts(text)
    try:
        table = tomllib.loads(text) if suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}.", "Mend the file, then try again.") from None
    if isinstance(table, dict):
        shared = table.get("prompt", {})
        shared = shared if isinstance(shared, dict) else {}
        subsets = shared.get("subset", [])
        items = [{**shared, **s} for s in subsets if isinstance(s, dict)] if isinstance(subsets, list) else []
    else:
        items = [i for i in table if isinstance(i, dict)] if isinstance(table, list) else []
    return [_item(item) for item in items if isinstance(item.get("prompt"), str)]


def _item(item: Mapping[str, Any]) -> Prompt:
    def number(key: str, missing: int) -> int:
        try:
            return _whole(item.get(key, missing)) if key in item else missing
        except (TypeError, ValueError, OverflowError):
            return missing

    scale = item.get("scale", 0.0)
    return Prompt(
        str(item["prompt"]), str(item.get("negative_prompt") or ""), number("width", 0), number("height", 0),
        number("seed", -1), float(scale) if isinstance(scale, (int, float)) else 0.0,
        number("sample_steps", 0), str(item.get("sample_sampler") or ""),
    )  # fmt: skip


def apply_prompts(prompts: list[Prompt]) -> dict[str, Any]:
    """Prompts as settings; what a run here has once is taken from the first prompt that says it."""
    values: dict[str, Any] = {}
    if texts := tuple(p.text for p in prompts if p.text):
        values["samples.prompts"] = texts
    for name in ("negative", "width", "height", "guidance", "steps"):
        if said := [getattr(p, name) for p in prompts if getattr(p, name)]:
            values[f"samples.{name}"] = said[0]
    if seeds := [p.seed for p in prompts if p.seed >= 0]:
        values["samples.seed"] = seeds[0]
    return values


def prompts_text(values: Mapping[str, Any]) -> str:
    """The sample prompts of a run as a text file of sd-scripts; the seeds count up as they do here."""
    lines: list[str] = []
    for index, prompt in enumerate(values["samples.prompts"]):
        line = " ".join(prompt.split())
        if values["samples.negative"]:
            line += f" --n {' '.join(values['samples.negative'].split())}"
        side = values["data.resolution"]
        line += f" --w {values['samples.width'] or side} --h {values['samples.height'] or side}"
        line += f" --d {values['samples.seed'] + index} --l {values['samples.guidance']:g}"
        line += f" --s {values['samples.steps']}"
        lines.append(line)
    return "\n".join(lines) + "\n" if lines else ""
