"""From raw values (presets, loratui.toml, `--set`, run.toml) to a `RunConfig`, with every problem at once."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratui.config.checks import check
from loratui.config.docs import FieldInfo, field_table, sections
from loratui.config.run import RunInfo, read_info
from loratui.config.schema import POSITIVE, SHORT_NAMES, RunConfig
from loratui.config.toml import flatten, read_toml
from loratui.errors import ConfigError, Problem

_ELSEWHERE = {
    "learning_rate": "lr",
    "unet_lr": "lr",
    "network_dim": "rank",
    "dim": "rank",
    "lora_rank": "rank",
    "network_alpha": "alpha",
    "lora_alpha": "alpha",
    "max_train_steps": "steps",
    "max_train_epochs": "epochs",
    "num_train_epochs": "epochs",
    "train_batch_size": "batch_size",
    "batch": "batch_size",
    "gradient_accumulation_steps": "optimizer.accumulation",
    "mixed_precision": "precision",
    "lr_scheduler": "optimizer.schedule",
    "scheduler": "optimizer.schedule",
    "lr_warmup_steps": "optimizer.warmup_steps",
    "warmup": "optimizer.warmup_steps",
    "optimizer_type": "optimizer",
    "pretrained_model_name_or_path": "base",
    "save_every_n_steps": "save_every",
    "sample_every_n_steps": "sample_every",
    "resolution_px": "resolution",
    "enable_bucket": "data.bucketing",
    "flip_aug": "data.flip",
    "network_module": "network",
}
"""What other trainers call our settings: used for `did you mean` only."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value for one key, and where it was written."""

    key: str
    value: Any
    where: str = ""


def settings_of(
    values: Mapping[str, Any], where: str = "", lines: Mapping[str, str] | None = None
) -> list[Setting]:
    """Nested or dotted values as settings; `lines` gives `file:line` per dotted key."""
    return [Setting(key, value, (lines or {}).get(key, where)) for key, value in flatten(values).items()]


def full_key(key: str) -> str:
    """The dotted path of a key or short name; the key itself when it is unknown."""
    return SHORT_NAMES.get(key, key)


def suggest(key: str) -> str:
    """The known key nearest to an unknown one, or an empty string."""
    leaf = key.rpartition(".")[2]
    if leaf in _ELSEWHERE:
        return _ELSEWHERE[leaf]
    paths = list(field_table())
    same_leaf = [p for p in paths if p.rpartition(".")[2] == leaf]
    if len(same_leaf) == 1:
        return same_leaf[0]
    head = key.partition(".")[0]
    if "." in key and head in sections():
        inside = {p.rpartition(".")[2]: p for p in paths if p.startswith(f"{head}.")}
        close = [inside[name] for name in difflib.get_close_matches(leaf, inside, 1, 0.6)]
        close = close or difflib.get_close_matches(leaf, SHORT_NAMES, 1, 0.75)
    elif "." in key:
        close = difflib.get_close_matches(key, paths, 1, 0.6)
    else:
        leaves = {p.rpartition(".")[2]: p for p in paths}
        close = difflib.get_close_matches(key, SHORT_NAMES, 1, 0.6)
        close = close or [leaves[name] for name in difflib.get_close_matches(leaf, leaves, 1, 0.7)]
    return close[0] if close else ""


def collect(settings: Iterable[Setting]) -> tuple[dict[str, Any], dict[str, str], list[Problem]]:
    """Converted values and their places by dotted path, later settings winning; and the problems of each."""
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for setting in settings:
        path = full_key(setting.key)
        info = field_table().get(path)
        if info is None:
            problems.append(_unknown(setting))
            continue
        try:
            values[path] = convert(info, setting.value)
            places[path] = setting.where
        except ValueError as error:
            fix = nearest(info, setting.value)
            problems.append(Problem(path, "bad-value", "error", f"{error}.", setting.where, fix=fix))
    return values, places, problems


def nearest(info: FieldInfo, value: Any) -> dict[str, Any]:
    """The allowed value nearest to a refused one, as a fix; empty when none is near."""
    if info.kind == "choice" and isinstance(value, str):
        near = difflib.get_close_matches(value.strip().lower(), info.choices, 1, 0.6)
        return {info.path: near[0]} if near else {}
    if info.kind in {"int", "float"}:
        try:
            number = _parsed(info, value)
        except ValueError:
            return {}
        if info.path in POSITIVE and number <= 0:
            return {info.path: info.default}
        low, high = info.minimum, info.maximum
        bounded = max(number, low) if low is not None else number
        bounded = min(bounded, high) if high is not None else bounded
        return {info.path: int(bounded) if info.kind == "int" else float(bounded)}
    return {}


def mended(problems: Iterable[Problem]) -> dict[str, Any]:
    """The changes that problems propose: dotted path -> value; of two for one path the first."""
    changes: dict[str, Any] = {}
    for problem in sorted(problems, key=lambda p: p.severity != "error"):
        if not any(path in changes for path in problem.fix):
            changes |= problem.fix
    return changes


def build(settings: Iterable[Setting], *, strict: bool = True) -> RunConfig:
    """A checked `RunConfig`; later settings win.

    Args:
        settings: from presets, files and the command line, in the order in which they apply.
        strict: also refuse unknown keys and rules across fields. A finished run's own file is read leniently,
            so that an older app can show a newer run.

    Raises:
        ConfigError: with all problems.
    """
    values, places, problems = collect(settings)
    if not strict:
        problems = []
    config = assemble(values)
    if strict:
        problems += [
            replace(p, where=places.get(p.path, ""))
            for p in check(config)
            if p.severity == "error" and p.path not in {q.path for q in problems}
        ]
    if problems:
        raise config_error(problems)
    return config


def config_error(problems: list[Problem]) -> ConfigError:
    """One error for all problems: the only one itself, or a count and the list."""
    if len(problems) == 1:
        message = str(problems[0])
    else:
        message = f"{len(problems)} settings are wrong."
    return ConfigError(message, "`loratui config schema` lists every setting.", tuple(problems))


def assemble(values: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from converted values by dotted path; everything else keeps its default."""
    parts: dict[str, Any] = {}
    for name, kind in sections().items():
        prefix = f"{name}."
        parts[name] = kind(**{k[len(prefix) :]: v for k, v in values.items() if k.startswith(prefix)})
    return RunConfig(**parts)


def as_dict(config: RunConfig) -> dict[str, Any]:
    """Dotted path -> value of every setting."""
    table = field_table()
    return {path: getattr(getattr(config, info.section), info.key) for path, info in table.items()}


def _unknown(setting: Setting) -> Problem:
    near = suggest(setting.key)
    head = setting.key.partition(".")[0]
    if near:
        advice = f"Did you mean `{near}`?"
    elif "." in setting.key and head in sections():
        keys = ", ".join(i.key for i in field_table().values() if i.section == head)
        advice = f"[{head}] has: {keys}."
    else:
        advice = f"Sections are: {', '.join(sections())}."
    return Problem(setting.key, "unknown-key", "error", "no such setting.", setting.where, advice)


def convert(info: FieldInfo, value: Any) -> Any:
    """A raw value as the field's type, in range.

    Raises:
        ValueError: the message says what is wanted, without a full stop.
    """
    if info.kind == "bool":
        return _bool(value)
    if info.kind == "list":
        return _texts(value)
    if info.kind == "ints":
        return _numbers(info, value)
    if info.kind in {"int", "float"}:
        return _number(info, value)
    if not isinstance(value, str):
        raise ValueError(f"wants text in quotes, not {_shown(value)}")
    if info.kind == "choice":
        lowered = value.strip().lower()
        if lowered in info.choices:
            return lowered
        near = difflib.get_close_matches(lowered, info.choices, 1, 0.6)
        hint = f"; did you mean {near[0]}" if near else ""
        raise ValueError(f"{_shown(value)} is not one of {', '.join(info.choices)}{hint}")
    return value


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in {"true", "yes", "on", "1"}:
            return True
        if lowered in {"false", "no", "off", "0"}:
            return False
    raise ValueError(f"wants true or false, not {_shown(value)}")


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                raise ValueError('wants a list like ["one", "two"]') from None
        else:
            value = [text] if text else []
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise ValueError(f"wants a list of texts, not {_shown(value)}")


def _numbers(info: FieldInfo, value: Any) -> tuple[int, ...]:
    """Whole numbers from a list, or from a text with commas, semicolons or spaces between them."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,;]+", value.strip().strip("[]")) if part]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"wants whole numbers like [768, 1024], not {_shown(value)}")
    return tuple(int(_number(info, one)) for one in value)


def _number(info: FieldInfo, given: Any) -> int | float:
    value = _parsed(info, given)
    low, high = info.minimum, info.maximum
    if info.path in POSITIVE and value <= 0:
        raise ValueError(f"must be above 0, not {value:g}")
    if (low is not None and value < low) or (high is not None and value > high):
        span = f"from {low:g} to {high:g}" if high is not None else f"{low:g} or more"
        raise ValueError(f"must be {span}, not {_shown(value)}")
    return value


def _parsed(info: FieldInfo, value: Any) -> int | float:
    whole = info.kind in {"int", "ints"}
    noun = "a whole number" if whole else "a number"
    if isinstance(value, str):
        text = value.strip().replace("_", "")
        try:
            value = int(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                raise ValueError(f"wants {noun}, not {_shown(value)}") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"wants {noun}, not {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"wants {noun}, not {value}")
    if whole:
        if value != int(value):
            raise ValueError(f"wants a whole number, not {value}")
        return int(value)
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"wants {noun} of a sensible size") from None


def _shown(value: Any) -> str:
    text = (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_run(path: Path) -> tuple[RunInfo, RunConfig]:
    """A run's own settings: `run.toml`, or the run directory that holds it.

    Raises:
        ConfigError: missing or not readable.
    """
    document = read_toml(path / "run.toml" if path.is_dir() else path)
    info = read_info(document)
    rest = {key: value for key, value in document.data.items() if key != "run"}
    return info, build(settings_of(rest), strict=False)
