"""The files of a caption run: what was asked for, as run.toml and manifest.jsonl hold it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from loratui.caption.engine import Picture
from loratui.caption.settings import CaptionSettings
from loratui.captioners.options import option_values, read_options
from loratui.captioners.protocol import Source
from loratui.captioners.spec import CaptionerSpec, Options, captioner_spec
from loratui.config.colours import WHITE, read_paper
from loratui.config.run import RunInfo, read_info
from loratui.config.toml import read_toml, value_text
from loratui.config.write import write_text
from loratui.dataset.framing import read_frame
from loratui.errors import ConfigError, RunError


@dataclass(frozen=True, slots=True)
class Chosen:
    """One captioner of a run: its row, its options, and where its weights lie."""

    row: CaptionerSpec
    options: Options
    source: Source


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """What a caption run does.

    Attributes:
        settings: how captions are made.
        captioners: in the order in which they speak.
        pictures: to describe.
        pinned: pictures left out because their caption was edited by hand.
        captioned: pictures left out because they have a caption (mode missing).
        other: pictures left out for other reasons: filtered, unreadable, sharing a caption.
    """

    settings: CaptionSettings
    captioners: tuple[Chosen, ...]
    pictures: tuple[Picture, ...]
    pinned: int = 0
    captioned: int = 0
    other: int = 0

    @property
    def name(self) -> str:
        """`blip+wd`."""
        return "+".join(c.row.name for c in self.captioners)


def write_plan(run: Path, info: RunInfo, plan: CaptionPlan) -> None:
    """Write run.toml.

    Raises:
        ConfigError: it cannot be written.
    """
    lines = ["# The settings of this run, frozen at its launch.", "", "[run]"]
    lines += [f"{f.name} = {value_text(getattr(info, f.name))}" for f in fields(info)]
    lines += ["", "[caption]"]
    lines += [f"{key} = {value_text(value)}" for key, value in option_values(plan.settings).items()]
    lines += ["", "[left_out]"]
    lines += [f"{key} = {getattr(plan, key)}" for key in ("pinned", "captioned", "other")]
    for chosen in plan.captioners:
        lines += ["", f"[captioner.{chosen.row.name}]"]
        lines += [f"{key} = {value_text(value)}" for key, value in option_values(chosen.options).items()]
        source = chosen.source
        lines += ["", f"[located.{chosen.row.name}]", f"name = {value_text(source.name)}"]
        lines += [f"folder = {value_text(str(source.folder or ''))}"]
        lines += [f"weights = {value_text(str(source.weights or ''))}"]
    write_text(run / "run.toml", "\n".join(lines) + "\n")


def write_manifest(run: Path, pictures: Sequence[Picture]) -> None:
    """Write manifest.jsonl.

    Raises:
        ConfigError: it cannot be written.
    """
    rows = []
    for picture in pictures:
        row: dict[str, Any] = {"path": str(picture.path), "rel": picture.rel}
        if not picture.frame.plain:
            row["frame"] = picture.frame.as_json()
        if picture.paper != WHITE:
            row["paper"] = list(picture.paper)
        rows.append(json.dumps(row))
    write_text(run / "manifest.jsonl", "".join(f"{row}\n" for row in rows))


def read_plan(run: Path) -> tuple[RunInfo, CaptionPlan]:
    """The identity and the plan of a caption run.

    Raises:
        ConfigError: run.toml cannot be read, or names what this version does not know.
        RunError: manifest.jsonl cannot be read.
    """
    document = read_toml(run / "run.toml")
    info = read_info(document)
    settings, wrong = read_options(CaptionSettings, _table(document.data, "caption"))
    located = _table(document.data, "located")
    chosen: list[Chosen] = []
    for name, values in _table(document.data, "captioner").items():
        row = captioner_spec(name)
        if row is None:
            raise ConfigError(f"There is no captioner {name!r}.", "This run was made by another version.")
        options, problems = read_options(row.options, values)
        wrong |= {f"{name}.{key}": text for key, text in problems.items()}
        place = _table(located, name)
        folder, weights = str(place.get("folder") or ""), str(place.get("weights") or "")
        source = Source(
            Path(folder) if folder else None, Path(weights) if weights else None, str(place.get("name"))
        )
        chosen.append(Chosen(row, options, source))
    if wrong:
        key, text = next(iter(wrong.items()))
        raise ConfigError(f"{run / 'run.toml'}: {key} {text}", "The run directory may be damaged.")
    left = _table(document.data, "left_out")
    counts = {key: int(left.get(key) or 0) for key in ("pinned", "captioned", "other")}
    return info, CaptionPlan(settings, tuple(chosen), read_manifest(run), **counts)


def read_manifest(run: Path) -> tuple[Picture, ...]:
    """The pictures of a caption run.

    Raises:
        RunError: manifest.jsonl cannot be read.
    """
    path = run / "manifest.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
        return tuple(
            Picture(
                i,
                Path(row["path"]),
                str(row["rel"]),
                read_frame(row.get("frame")),
                read_paper(row.get("paper")),
            )
            for i, row in enumerate(rows)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}.", "The run directory may be damaged.") from error


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}
