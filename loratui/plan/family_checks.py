"""Rules about settings against the base model that was found."""

from __future__ import annotations

import re
from pathlib import Path

from loratui.config.finding import error, warning
from loratui.config.memory_checks import too_many_blocks
from loratui.config.schema import RunConfig
from loratui.errors import LoratuiError, Problem
from loratui.families.detect import Detected
from loratui.families.spec import FamilySpec, family_spec
from loratui.plan.flow_checks import check_distilled, check_flow
from loratui.weights.base_layers import read_layers

_TRUE_SIZE = 100_000_000
"""Bases with fewer weights than this are models to try things on, of any resolution."""
_V_NAME = re.compile(r"v[-_ ]?pred", re.IGNORECASE)


def check_family(config: RunConfig, family: str, base: Path, found: Detected) -> list[Problem]:
    """What speaks against settings, knowing the base.

    Args:
        config: the settings.
        family: what it is trained as.
        base: its file or folder.
        found: what its headers say.
    """
    spec = family_spec(family)
    if spec is None:
        return []
    problems: list[Problem] = check_flow(config, spec)
    problems += check_distilled(config, spec, base)
    problems += _blocks(config, spec, base)
    side, own = config.data.resolution, spec.resolution
    if found.parameters >= _TRUE_SIZE and not 0.6 * own <= side <= 1.6 * own:
        way = "below" if side < own else "above"
        message = f"{side} px is far {way} the {own} px that {spec.title} was made for."
        fix: dict[str, object] = {"data.resolution": own}
        if config.data.max_bucket < own:
            fix["data.max_bucket"] = 2 * own
        if config.data.min_bucket > own:
            fix["data.min_bucket"] = own // 2
        problems.append(warning("data.resolution", "resolution-off", message, f"{own} is usual.", fix))
    if config.model.clip_skip > 1 and family != "sd15" and not spec.flow:
        message = f"{spec.title} has its layer chosen already; skipping more makes prompts mean less."
        one = {"model.clip_skip": 1}
        problems.append(warning("model.clip_skip", "clip-skip-off", message, "Set it to 1.", one))
    return problems if spec.flow else problems + _prediction(config, base, found)


def _blocks(config: RunConfig, spec: FamilySpec, base: Path) -> list[Problem]:
    """Blocks to swap that models of the family may have, and this base has not."""
    asked = config.memory.blocks_to_swap
    if spec.names is None or not 0 < asked <= spec.most_blocks:  # more are refused without a base
        return []
    try:
        layers = read_layers(base, spec.name)
    except (LoratuiError, OSError):  # said where it is loaded
        return []
    count = sum(layers.blocks.values()) if layers is not None else asked
    return [too_many_blocks("this base", count, asked)] if asked > count else []


def _prediction(config: RunConfig, base: Path, found: Detected) -> list[Problem]:
    """What the U-Net predicts, as set, as the base says, as its name says."""
    problems: list[Problem] = []
    path, chosen = "objective.prediction", config.objective.prediction
    if chosen == "auto" and found.prediction == "epsilon" and _V_NAME.search(base.name):
        message = f"{base.name} is called v-prediction, and nothing in it says so."
        fix = {path: "v_prediction"}
        advice = "Set objective.prediction to v_prediction, or the result is noise."
        problems.append(warning(path, "v-pred-by-name", message, advice, fix))
    if chosen != "auto" and found.stated and found.prediction and chosen != found.prediction:
        message = f"the base says that it predicts {found.prediction}, not {chosen}."
        problems.append(warning(path, "wrong-prediction", message, "Use auto.", {path: "auto"}))
    predicts = found.prediction if chosen == "auto" else chosen
    if config.objective.zero_terminal_snr and chosen == "auto" and predicts == "epsilon":
        message = "the base predicts the noise, which tells nothing where all is noise."
        off = {"objective.zero_terminal_snr": False}
        where = "objective.zero_terminal_snr"
        problems.append(error(where, "zero-snr-epsilon", message, "Turn it off.", off))
    return problems
