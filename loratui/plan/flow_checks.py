"""Rules about what flow models have and what they have not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from loratui.config.finding import error, info, warning
from loratui.config.schema import ModelConfig, ObjectiveConfig, RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.families.detected import json_of
from loratui.families.emphasis import read
from loratui.families.spec import FamilySpec
from loratui.weights.header import read_header
from loratui.weights.networks import network_spec

_NOISE_ONLY = ("min_snr_gamma", "weighting", "zero_terminal_snr", "prediction")
_FLOW_ONLY = ("timestep_distribution", "sigmoid_mean", "sigmoid_std", "shift", "shift_by_area")


def check_flow(config: RunConfig, spec: FamilySpec) -> list[Problem]:
    """What speaks against settings of the objective, the network and the samples for a family.

    Args:
        config: the settings.
        spec: what it is trained as.
    """
    found = _sides(config, spec) + _network(config, spec)
    objective, default = config.objective, ObjectiveConfig()
    for key in _NOISE_ONLY if spec.flow else _FLOW_ONLY:
        if getattr(objective, key) != getattr(default, key):
            path, fix = f"objective.{key}", {f"objective.{key}": getattr(default, key)}
            message = (
                f"{spec.title} learns a velocity along a straight line, which has no {key}."
                if spec.flow
                else f"{spec.title} is no flow model: its timesteps are whole numbers of a noise schedule."
            )
            found.append(error(path, "not-of-flow" if spec.flow else "flow-only", message, "", fix))
    return found + (_flow(config, spec) + _said(config, spec) if spec.flow else [])


def _said(config: RunConfig, spec: FamilySpec) -> list[Problem]:
    """What sample prompts hold that the large text encoders of flow models do not take."""
    prompts = (*config.samples.prompts, config.samples.negative)
    weighed = next((p for p in prompts if config.samples.weights and _weighs(p)), "")
    if not weighed:
        return []
    message = f"{spec.title} reads the words of {weighed!r} alone: weights are left out of its samples."
    return [info("samples.prompts", "weights-dropped", message, "Say it in words.")]


def _weighs(prompt: str) -> bool:
    spoken = read(prompt)
    return not isinstance(spoken, str) and any(weight != 1.0 for _, weight in spoken.pieces)


def check_distilled(config: RunConfig, spec: FamilySpec, base: Path) -> list[Problem]:
    """What speaks against training a base that is distilled, as its name says, and against an adapter.

    Args:
        config: the settings.
        spec: what it is trained as.
        base: its file or folder.
    """
    found: list[Problem] = []
    adapter, samples = config.model.adapter, config.samples
    if adapter and not spec.flow:
        fix: dict[str, Any] = {"model.adapter": ""}
        message = f"{spec.title} takes no training adapter."
        return [error("model.adapter", "not-of-family", message, "Leave it empty.", fix)]
    if spec.wide and config.memory.precision == "fp16":
        message = f"numbers within {spec.title} are larger than fp16 holds."
        fix = {"memory.precision": "bf16"}
        found.append(warning("memory.precision", "fp16-overflow", message, "Use bf16.", fix))
    if spec.flow and config.objective.guidance != ObjectiveConfig().guidance and not told_guidance(base):
        message = "the base has no input for a guidance, so none is told in training."
        fix = {"objective.guidance": ObjectiveConfig().guidance}
        found.append(warning("objective.guidance", "guidance-not-told", message, "Set it to 1.", fix))
    if not is_distilled(spec, config.model.base, base):
        return found
    if not adapter:
        message = (
            "the base is distilled to few steps, by its name; a LoRA trained without an adapter undoes that:"
            " pictures need more steps and guidance again."
        )
        advice = (
            "Name a training adapter (a LoRA that undoes the distillation while it is trained), train on"
            " the base that is not distilled, or keep the training short."
        )
        found.append(warning("model.adapter", "distilled", message, advice))
    if samples.every and samples.guidance > 0:
        message = "a distilled base draws without guidance; with it, its samples are burnt."
        fix = {"samples.guidance": 0.0, "samples.steps": min(samples.steps, 9)}
        found.append(warning("samples.guidance", "distilled-guidance", message, "Set it to 0.", fix))
    return found


def told_guidance(base: Path) -> bool:
    """Whether a base is told a guidance, as distilled ones are; taken for granted where it cannot be read."""
    try:
        if base.is_dir():
            return bool(json_of(base / "transformer" / "config.json").get("guidance_embeds"))
        return any(name.endswith("guidance_in.in_layer.weight") for name in read_header(base).tensors)
    except LoratuiError:
        return True


def is_distilled(spec: FamilySpec, named: str, base: Path) -> bool:
    """Whether a base is distilled, by the name of its file, folder or Hub id."""
    names = [Path(named).name, base.name]
    if base.parent.name == "snapshots":  # in the Hub's cache
        names.append(base.parent.parent.name)
    return bool(spec.distilled) and any(re.search(spec.distilled, n, re.IGNORECASE) for n in names)


def _flow(config: RunConfig, spec: FamilySpec) -> list[Problem]:
    found: list[Problem] = []
    objective = config.objective
    if objective.shift and objective.shift_by_area:
        message = "a fixed shift and one that grows with the area exclude each other."
        fix: dict[str, Any] = {"objective.shift": 0.0}
        found.append(error("objective.shift", "two-shifts", message, "Keep one of them.", fix))
    if objective.timestep_bias != "none" and objective.timestep_distribution not in {"auto", "uniform"}:
        message = (
            f"{objective.timestep_bias} and {objective.timestep_distribution} both choose the timesteps."
        )
        fix = {"objective.timestep_bias": "none"}
        found.append(error("objective.timestep_bias", "two-distributions", message, "Keep one of them.", fix))
    if config.samples.every and config.samples.sampler == "dpmpp_2m":
        message, fix = "DPM++ 2M does not follow a flow.", {"samples.sampler": "euler"}
        found.append(error("samples.sampler", "not-of-flow", message, "Use euler.", fix))
    if config.model.clip_skip != ModelConfig().clip_skip:
        message, fix = f"{spec.title} has its layers fixed.", {"model.clip_skip": 1}
        found.append(error("model.clip_skip", "not-of-flow", message, "Set it to 1.", fix))
    if int(config.data.max_tokens) > 75:
        message = f"{spec.title} reads long captions with its large text encoder anyway."
        fix = {"data.max_tokens": "75"}
        found.append(error("data.max_tokens", "not-of-flow", message, "Set it to 75.", fix))
    return found


def _network(config: RunConfig, spec: FamilySpec) -> list[Problem]:
    found: list[Problem] = []
    network = config.network
    if spec.networks and network.kind not in spec.networks:
        known = network_spec(network.kind)
        title = known.title if known else network.kind
        message = f"{spec.title} is not trained with {title} here."
        advice = f"Use {' or '.join(spec.networks)}."
        found.append(error("network.kind", "not-of-family", message, advice, {"network.kind": "lora"}))
    if (not spec.trains_text and network.text_encoder) or (spec.flow and network.tokens):
        what = "text encoders" if network.text_encoder else "new tokens"
        message = f"the {what} of {spec.title} are not trained here."
        off: dict[str, Any] = {"network.text_encoder": False, "network.tokens": 0}
        found.append(error("network.text_encoder", "not-of-family", message, "Leave them off.", off))
    if spec.flow and network.target == "full+conv":
        message, full = f"{spec.title} has no residual convolutions.", {"network.target": "full"}
        found.append(info("network.target", "no-convolutions", message, "full is the same.", full))
    return found


def _sides(config: RunConfig, spec: FamilySpec) -> list[Problem]:
    """Sides are whole tokens: multiples of 16 px for most transformers."""
    step, side = config.data.bucket_step, spec.side_px
    if step % side == 0 or not spec.flow:
        return []
    near = max(side, step // side * side)
    message = f"{spec.title} needs sides that are multiples of {side} px."
    fix = {"data.bucket_step": near}
    return [error("data.bucket_step", "not-divisible", message, f"Set it to {near}.", fix)]
