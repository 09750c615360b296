"""An imported config as a preset of ours, and settings as another trainer's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loratui.config.checks import check
from loratui.config.docs import field_table
from loratui.config.load import assemble
from loratui.config.toml import quote, value_text
from loratui.config.trainers import ai_toolkit, sd_scripts
from loratui.config.trainers.report import Folder, Imported, Line, shown
from loratui.families.emphasis import with_trigger


def settle(found: Imported) -> Imported:
    """The same with what would be refused here put right, each change a line of the report.

    Other trainers take sides that are no multiples of the bucket step, restarts with any schedule, and the
    like; a preset that does not load would help nobody.
    """
    values = dict(found.values)
    lines = list(found.lines)
    for _ in range(8):  # one repair may bring out another problem
        errors = [p for p in check(assemble(values)) if p.severity == "error"]
        if not errors:
            break
        for problem in errors:
            why = f"{problem.message} {problem.advice}".strip()
            for path, after in (problem.fix or {problem.path: field_table()[problem.path].default}).items():
                lines.append(Line("changed", path, shown(values.get(path)), path, shown(after), why))
                values[path] = after
    return replace(found, values=values, lines=tuple(lines))


def preset_text(found: Imported) -> str:
    """A preset file with the settings, and the report as its comments."""
    from loratui.config.docs import sections

    title = found.name or found.path.stem
    family = found.values.get("model.family", "")
    lines = [
        f"# Imported from {_comment(found.path.name)}, a config of {found.trainer}.",
        "[preset]",
        f"title = {_quoted(title)}",
        f"about = {_quoted(f'Imported from {found.path.name} ({found.trainer}).')}",
    ]
    if family and family != "auto":
        lines.append(f"family = {_quoted(family)}")
    comments = {line.to: line for line in found.lines if line.to and line.kind in {"changed", "default"}}
    for section in sections():
        keys = [key for key in field_table() if key.startswith(f"{section}.") and key in found.values]
        if not keys:
            continue
        lines += ["", f"[{section}]"]
        for key in keys:
            note = ""
            if key in comments:
                line = comments[key]
                said = line.why or "that trainer's default"
                note = f"  # {_comment(line.key)}: {_comment(said)}"
            lines.append(f"{key.partition('.')[2]} = {_value(found.values[key])}{note}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    return quote("".join(c if not 0xD800 <= ord(c) <= 0xDFFF else "?" for c in text))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_quoted(v) if isinstance(v, str) else str(v) for v in value) + "]"
    return value_text(value)


def export_files(
    trainer: str, values: Mapping[str, Any], folders: list[Folder], name: str, trigger: str, family: str
) -> tuple[dict[str, str], list[str]]:
    """The files of another trainer, by name, and the settings it has no key for.

    Args:
        trainer: `sd-scripts` or `ai-toolkit`.
        values: dotted path -> value, of every setting.
        folders: where the pictures lie.
        name: of the result.
        trigger: the project's trigger, put into the prompts.
        family: of the base, empty when it is not known.
    """
    if trainer == "ai-toolkit":
        import yaml

        job, unsaid = ai_toolkit.write(values, folders, name, trigger, family)
        head = "# A job for ai-toolkit, written by loratui: python run.py THIS\n"
        head += "".join(f"# {_comment(text)}\n" for text in unsaid)
        text = yaml.safe_dump(job, sort_keys=False, allow_unicode=True, default_flow_style=False)
        return {f"{_file(name)}.yaml": head + text}, unsaid
    named = dict(values)
    weights = values["samples.weights"]
    named["samples.prompts"] = tuple(with_trigger(p, trigger, weights) for p in values["samples.prompts"])
    arguments, general, unsaid = sd_scripts.write(named, family)
    files: dict[str, str] = {"dataset.toml": sd_scripts.dataset_text(general, folders)}
    arguments["dataset_config"] = "dataset.toml"
    arguments["output_name"] = name
    if prompts := sd_scripts.prompt_file(named):
        files["prompts.txt"] = prompts
        arguments["sample_prompts"] = "prompts.txt"
    script = "sdxl_train_network.py" if family == "sdxl" else "train_network.py"
    files["config.toml"] = sd_scripts.config_text(arguments, [_comment(text) for text in unsaid], script)
    return files, unsaid


def _file(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.")
    return kept or "lora"
