"""Which trainer a file is of, and the file itself: TOML, JSON, YAML or a command line, with its lines."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loratui.config.toml import flatten, read_toml
from loratui.config.trainers import ai_toolkit, kohya_gui, onetrainer, sd_scripts
from loratui.config.trainers.report import Folder, Imported
from loratui.errors import ConfigError

_LARGEST = 16 * 1024 * 1024
_KOHYA_GUI = {
    "LoRA_type",
    "max_resolution",
    "lr_warmup",
    "optimizer",
    "epoch",
    "model_list",
    "LyCORIS_preset",
}
_ONETRAINER = {
    "training_method",
    "model_type",
    "base_model_name",
    "peft_type",
    "lora_rank",
    "concept_file_name",
}
_SCRIPT = re.compile(r"\S*train(?:_network|_controlnet|_db|_textual_inversion)?\w*\.py")
_FLOW_SCRIPTS = ("flux_train", "sd3_train", "lumina_train", "anima_train", "hunyuan")
Where = Callable[[str], str]


def import_config(path: Path) -> Imported:
    """Read another trainer's config, whichever it is.

    Raises:
        ConfigError: it cannot be read, or is none that is known; the message names the file and the line.
    """
    text = _text(path)
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return _toml(path)
    if suffix in {".yaml", ".yml"}:
        table, where = _yaml(path, text)
        return _ai_toolkit(path, table, where)
    if suffix == ".json":
        table, where = _json(path, text)
        return _json_config(path, table, where)
    if _SCRIPT.search(text):
        arguments = command_line(text, path)
        return _sd_scripts(arguments, path, lambda key: _argument_line(path, text, key))
    raise ConfigError(
        f"{path.name} is no config that is known.",
        "Give sd-scripts TOML, kohya_ss JSON, a command line in a text file, ai-toolkit YAML or OneTrainer "
        "JSON.",
    )


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path} is too large to be a config.", "Check the path.")
        raw = path.read_bytes()
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder.", "Name the config file in it.") from None
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.", "Check the path.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path} cannot be read: {reason}.", "Check its owner and mode.") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: it is not UTF-8.", "Convert the file, then try again.") from None


# --- TOML: sd-scripts ---------------------------------------------------------------------------------------


def _toml(path: Path) -> Imported:
    document = read_toml(path)
    if "datasets" in document.data or "general" in document.data:
        return sd_scripts.read_dataset(document.data, path, document.where)
    arguments: dict[str, Any] = {}
    places: dict[str, str] = {}
    for dotted, value in flatten(document.data).items():  # its sections only group
        key = dotted.rpartition(".")[2]
        arguments[key], places[key] = value, document.where(dotted)
    if not arguments.keys() & _sd_keys():
        raise ConfigError(f"{path} has no key of sd-scripts.", "Give its --config_file or --dataset_config.")
    return _sd_scripts(arguments, path, lambda key: places.get(key, str(path)))


def _sd_keys() -> set[str]:
    rows = (*sd_scripts.ROWS, *sd_scripts.DATASET_ROWS, *sd_scripts.SUBSET_ROWS)
    more = {"network_dim", "network_module", "learning_rate", "unet_lr", "max_train_steps", "optimizer_type",
            "train_data_dir", "dataset_config", "resolution", "max_train_epochs"}  # fmt: skip
    return {row.key for row in rows} | more


def _sd_scripts(arguments: Mapping[str, Any], path: Path, where: Where) -> Imported:
    """Arguments, and the dataset TOML they name when it lies where they say."""
    found = sd_scripts.read(arguments, path, where)
    named = arguments.get("dataset_config")
    if not isinstance(named, str) or not named or "\x00" in named:
        return found
    file = path.parent / named
    try:
        there = file.is_file()
    except OSError:
        there = False
    if not there:
        return found
    dataset = _toml(file)
    values = {**found.values, **dataset.values}
    lines = tuple(line for line in found.lines if not (line.kind == "default" and line.to in dataset.values))
    return Imported(
        found.trainer,
        path,
        values,
        (*lines, *dataset.lines),
        (*found.folders, *dataset.folders),
        "",
        found.name,
    )


# --- JSON: kohya_ss, OneTrainer, ai-toolkit -----------------------------------------------------------------


def _json(path: Path, text: str) -> tuple[Mapping[str, Any], Where]:
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg}.", "Mend the line.") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{path}: not valid JSON: {reason}.", "Mend the file.") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path} is no config: it holds no table of keys.", "Check the path.")
    return table, lambda key: _json_line(path, text, key)


def _json_line(path: Path, text: str, key: str) -> str:
    """`file:line` of a dotted key: each part is looked for behind the one before."""
    at = 0
    for part in key.split("."):
        found = re.compile(re.escape(json.dumps(part, ensure_ascii=False)) + r"\s*:").search(text, at)
        if found is None:
            continue
        at = found.start()
    return f"{path}:{text.count(chr(10), 0, at) + 1}" if at else str(path)


def _json_config(path: Path, table: Mapping[str, Any], where: Where) -> Imported:
    if isinstance(table.get("config"), dict) and "process" in table["config"]:
        return _ai_toolkit(path, table, where)
    keys = table.keys()
    gui, one = len(keys & _KOHYA_GUI), len(keys & _ONETRAINER)
    if one > gui:
        return onetrainer.read(table, path, where, _concepts(path, table))
    if gui or keys & _sd_keys():
        return kohya_gui.read(table, path, where)
    raise ConfigError(f"{path} is no config of kohya_ss or OneTrainer.", "Check the path.")


def _concepts(path: Path, table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    named = table.get("concept_file_name")
    if not isinstance(named, str) or not named or "\x00" in named:
        return []
    for file in (path.parent / named, path.parent / Path(named).name):
        try:
            if file.is_file() and file.stat().st_size <= _LARGEST:
                loaded = json.loads(file.read_text("utf-8-sig"))
                return [c for c in loaded if isinstance(c, dict)] if isinstance(loaded, list) else []
        except (OSError, ValueError, RecursionError):
            return []
    return []


# --- YAML: ai-toolkit ---------------------------------------------------------------------------------------


def _yaml(path: Path, text: str) -> tuple[Mapping[str, Any], Where]:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _anchors(text) > 100:
            raise ConfigError(f"{path} has too many anchors.", "Write the values out.")
        table = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{place}: not valid YAML: {error.problem or error.context}.", "Mend the line."
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {reason}.", "Mend the file.") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path} is no config: it holds no table of keys.", "Check the path.")
    lines: dict[str, int] = {}
    _mark(node, "", lines, 0)

    def where(key: str) -> str:
        while key and key not in lines:
            key = key.rpartition(".")[0]
        return f"{path}:{lines[key]}" if key else str(path)

    return table, where


def _anchors(text: str) -> int:
    return len(re.findall(r"(?:^|[\s\[{,])\*\w", text))


def _mark(node: Any, prefix: str, lines: dict[str, int], depth: int) -> None:
    """Line of every dotted key of a YAML node, list items by their number."""
    import yaml

    if depth > 20:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}.{key.value}" if prefix else str(key.value)
            lines.setdefault(name, key.start_mark.line + 1)
            _mark(value, name, lines, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            name = f"{prefix}.{index}" if prefix else str(index)
            lines.setdefault(name, value.start_mark.line + 1)
            _mark(value, name, lines, depth + 1)


def _ai_toolkit(path: Path, table: Mapping[str, Any], where: Where) -> Imported:
    config = table.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("process"), list):
        raise ConfigError(f"{path} has no config.process list.", "Give a job file of ai-toolkit.")
    return ai_toolkit.read(table, path, where)


# --- a command line -----------------------------------------------------------------------------------------


def command_line(text: str, path: Path) -> dict[str, Any]:
    """The arguments behind the training script in a shell or batch file.

    Raises:
        ConfigError: quotes that do not close, or a script of a family that is not here.
    """
    joined = re.sub(r"[\\^`]\r?\n", " ", text)
    lines = [
        line for line in joined.splitlines() if not line.lstrip().startswith(("#", "::", "REM ", "rem "))
    ]
    line = next((line for line in lines if _SCRIPT.search(line)), "")
    try:
        words = shlex.split(line, comments=False, posix="\\" not in line or "/" in line)
    except ValueError as error:
        number = next((n for n, raw in enumerate(text.splitlines(), 1) if _SCRIPT.search(raw)), 1)
        raise ConfigError(f"{path}:{number}: {str(error).lower()}.", "Mend the line.") from None
    at = next((i for i, word in enumerate(words) if _SCRIPT.fullmatch(word.strip("\"'"))), -1)
    if at >= 0 and Path(words[at].replace("\\", "/")).name.startswith(_FLOW_SCRIPTS):
        raise ConfigError(
            f"{path} runs {Path(words[at]).name}, a family that cannot be imported yet.",
            "Take a preset of that family: `loratui presets`.",
        )
    found: dict[str, Any] = {}
    key = ""
    values: list[str] = []
    for word in [*words[at + 1 :], "--"]:
        if word.startswith("--"):
            if key:
                found[key] = True if not values else values[0] if len(values) == 1 else values
            key, equals, value = word[2:].partition("=")
            values = [value] if equals else []
        elif key:
            values.append(word.strip("\"'"))
    return found


def _argument_line(path: Path, text: str, key: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(rf"--{re.escape(key)}(?![\w-])", line):
            return f"{path}:{number}"
    return str(path)


__all__ = ["Folder", "Imported", "command_line", "import_config"]
