"""Settings to files: run.toml whole and new, loratui.toml in place with its comments kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from loratui.config.docs import sections
from loratui.config.load import as_dict
from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.config.toml import value_text
from loratui.errors import ConfigError
from loratui.files import replace_file


def run_text(info: RunInfo, config: RunConfig) -> str:
    """The text of a run.toml."""
    lines = ["# The settings of this run, frozen at its launch.", "", "[run]"]
    lines += [f"{f.name} = {value_text(getattr(info, f.name))}" for f in fields(info)]
    values = as_dict(config)
    for section in sections():
        prefix = f"{section}."
        lines += ["", f"[{section}]"]
        lines += [f"{k[len(prefix) :]} = {value_text(v)}" for k, v in values.items() if k.startswith(prefix)]
    return "\n".join(lines) + "\n"


def write_run(path: Path, info: RunInfo, config: RunConfig) -> None:
    """Write run.toml atomically.

    Raises:
        ConfigError: a value that TOML cannot hold, or a folder that cannot be written.
    """
    write_text(path, run_text(info, config))


def update_toml(path: Path, changes: Mapping[str, Any]) -> None:
    """Set dotted keys of a TOML file, keeping its comments and order; a value of None removes the key.

    Raises:
        ConfigError: the file cannot be read, parsed or written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig") if path.exists() else "")
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{path} cannot be changed: {error}.", "Mend the file, then try again.") from error
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        table: Any = document
        for parent in parents:
            if parent not in table:
                if value is None:
                    break
                table[parent] = tomlkit.table()
            table = table[parent]
        else:
            if value is None:
                table.pop(key, None)
            else:
                table[key] = list(value) if isinstance(value, tuple) else value
    write_text(path, tomlkit.dumps(document))


def append_table(path: Path, name: str, values: Mapping[str, Any]) -> None:
    """Append one `[[name]]` table to a TOML file, keeping its comments.

    Raises:
        ConfigError: the file cannot be read, parsed or written.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{path} cannot be changed: {error}.", "Mend the file, then try again.") from error
    table = tomlkit.table()
    for key, value in values.items():
        table[key] = value
    if name not in document:
        document[name] = tomlkit.aot()
    array: Any = document[name]
    array.append(table)
    write_text(path, tomlkit.dumps(document))


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically: temp file beside it, flushed, renamed over it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.",
            "Check that the folder exists and is not read-only.",
        ) from error
