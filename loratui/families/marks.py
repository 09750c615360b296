"""Detection of the diffusion transformers, by the marks in their rows of `families.spec`. Torch-free."""

from __future__ import annotations

from pathlib import Path

from loratui.errors import BaseModelError, Problem
from loratui.families.detected import Detected, component, count, json_of, refused
from loratui.families.spec import FAMILIES, FamilySpec
from loratui.weights.header import Header
from loratui.weights.layouts import own_blocks

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "")
VAE = ("first_stage_model.", "vae.")
_TEXT = ("text_encoders.", "text_encoder.", "conditioner.", "cond_stage_model.")


def of_pipeline(name: str) -> FamilySpec | None:
    """The family of a pipeline's class."""
    return next((f for f in FAMILIES if name in f.pipelines), None)


def of_file(header: Header) -> FamilySpec | None:
    """The family of a file: all its marks are there, and none of its lookalikes'."""
    names = header.tensors
    for prefix in PREFIXES:
        for row in FAMILIES:
            marked = row.marks and all(prefix + mark in names for mark in row.marks)
            if marked and not any(prefix + mark in names for mark in row.unlike):
                return row
    return None


def kin_of_pipeline(name: str) -> FamilySpec | None:
    """The family whose pipeline's name this one's begins with: it is of another kind of it, such as edits."""
    starts = {min(row.pipelines, key=len).removesuffix("Pipeline"): row for row in FAMILIES if row.pipelines}
    begun = [start for start in starts if name.startswith(start)]
    return starts[max(begun, key=len)] if begun else None


def kin_of_file(header: Header) -> list[FamilySpec]:
    """The families whose blocks a file has under names that only the original has."""
    found = []
    for row in FAMILIES:
        blocks = own_blocks(row.name) if row.names is not None else ()
        starts = tuple(f"{prefix}{block}." for prefix in PREFIXES for block in blocks)
        if any(name.startswith(starts) for name in header.tensors):
            found.append(row)
    return found


def detect_folder(path: Path, row: FamilySpec) -> Detected:
    """What a diffusers folder of a family is."""
    index = json_of(path / "model_index.json")
    named = [k for k, v in index.items() if isinstance(v, list) and v[:1] and v[0] is not None]
    problems: list[Problem] = []
    headers: dict[str, list[Header]] = {"transformer": component(path / "transformer")}
    config = json_of(path / "vae" / "config.json") if (path / "vae").is_dir() else {}
    if config:
        headers["vae"] = component(path / "vae")
    else:
        problems.append(lacks(path, "vae"))
    for part in named:
        if part.startswith("text_encoder"):
            try:
                headers[part] = component(path / part)
            except BaseModelError:
                problems.append(lacks(path, "text"))
    if any(part.startswith("tokenizer") and not (path / part).is_dir() for part in named):
        problems.append(lacks(path, "text"))
    if not (path / "scheduler" / "scheduler_config.json").is_file():
        return refused("incomplete", f"{path / 'scheduler'} is missing.", "Download the base model again.")
    factor = row.latent_factor
    if "block_out_channels" in config:
        factor = 2 ** (len(config["block_out_channels"]) - 1)
    elif "temperal_downsample" in config:  # of codecs that are those of video models
        factor = 2 ** len(config["temperal_downsample"])
    return Detected(
        family=row.name,
        layout="diffusers",
        prediction="flow" if row.flow else "epsilon",
        stated=True,
        problems=tuple(dict.fromkeys(problems)),
        parameters=sum(count(h, "") for h in headers["transformer"]),
        bytes=sum(h.size for found in headers.values() for h in found),
        latent_factor=factor,
        what=row.title,
    )


def detect_file(path: Path, header: Header, row: FamilySpec) -> Detected:
    """What a single file of a family is: a whole base, or its transformer alone."""
    names = header.tensors
    prefix = next(p for p in PREFIXES if p + row.marks[0] in names)
    problems = []
    if not any(name.startswith(VAE) for name in names):
        problems.append(lacks(path, "vae"))
    if not any(name.startswith(_TEXT) for name in names):
        problems.append(lacks(path, "text"))
    levels = {n.split(".")[3] for n in names if n.startswith("first_stage_model.encoder.down.")}
    others = sum(count(header, start) for start in (*VAE, *_TEXT))
    return Detected(
        family=row.name,
        layout="original",
        prediction="flow" if row.flow else "epsilon",
        stated=True,
        problems=tuple(problems),
        parameters=count(header, prefix) - (0 if prefix else others),
        bytes=header.size,
        latent_factor=2 ** (len(levels) - 1) if levels else row.latent_factor,
        what=row.title,
    )


def lacks(path: Path, what: str) -> Problem:
    """A part that must come from somewhere else: an error unless the setting names it."""
    if what == "vae":
        message, advice = f"{path} holds no VAE.", "Name one with model.vae."
    else:
        message = f"{path} holds no text encoders, or not all of them with their tokenizers."
        advice = "Name a diffusers folder of the same family, or files and folders, with model.text."
    return Problem(f"model.{what}", f"no-{what}", "warning", message, advice=advice)
