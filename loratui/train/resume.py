"""Going on from a checkpoint: what must be the same, what may differ and is said, and what is put back."""

from __future__ import annotations

import hashlib
from typing import Any

from loratui.config.docs import field_table
from loratui.config.run import RunInfo
from loratui.config.schema import RunConfig
from loratui.errors import RunError
from loratui.families.protocol import Parts
from loratui.train.checkpoint import Checkpoints, Snapshot, restore_optimizer
from loratui.train.published import Published
from loratui.train.samples import Picture
from loratui.train.training_adapter import base_print

FREE = (
    "samples.", "saving.", "data.cache", "memory.device", "memory.gradient_checkpointing",
    "memory.blocks_to_swap", "memory.processes",
    "memory.compile", "optimizer.on_nan", "optimizer.max_grad_norm", "objective.validation_every",
)  # fmt: skip
"""Settings that a resume may find changed: they leave what is being trained as it is."""
ELSEWHERE = ("model.", "optimizer.epochs", "optimizer.steps", "memory.")
"""Settings that the fingerprints compare by what they lead to."""


def newest_snapshot(
    context: Any, checkpoints: Checkpoints, prints: dict[str, str], settings: dict[str, Any]
) -> Snapshot | None:
    """The newest good checkpoint of this run, with a warning for each newer one that is damaged.

    Raises:
        RunError: all are damaged, or it was made with other settings, data or base.
    """
    snapshot, bad = checkpoints.newest()
    for one in bad:
        context.journal.write(
            "warning", code="bad-checkpoint", message=f"{one.path.name} is not used: {one.reason}",
            advice="Resuming from the one before it.",
        )  # fmt: skip
    step = snapshot.step if snapshot is not None else 0
    if context.from_step != step:
        context.rewind(step)
    if snapshot is not None:
        for text in check_same(snapshot, prints, settings):
            context.journal.write("warning", code="changed-setting", message=text, advice="")
    return snapshot


def fingerprints(info: RunInfo, config: RunConfig, pictures: list[Picture], parts: Parts) -> dict[str, str]:
    """What a checkpoint carries of the things beside the settings that decide what is trained."""
    rows = repr(
        [
            (p.hash, p.caption, p.repeats, p.bucket.scaled, p.bucket.crop, p.mask_hash, p.weight)
            + (() if p.frame.plain else (p.frame.turn, p.frame.mirror))
            + ((p.lines,) if p.lines else ())
            for p in pictures
        ]
    )
    precision = f"{config.memory.precision}/{config.memory.base_precision}"
    if config.memory.base_weights != "full":
        precision += f"/{config.memory.base_weights}"
    return {
        "pictures": hashlib.sha256(rows.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        "precision": precision,
        "base": base_print(parts),
        "text": parts.text_identity[:16],
        "vae": parts.vae_identity[:16],
        "steps": str(info.steps),
    }


def check_same(snapshot: Snapshot, prints: dict[str, str], settings: dict[str, Any]) -> list[str]:
    """Refuse to go on with a checkpoint of other settings, data or base.

    Returns:
        A line for each setting that differs and may.

    Raises:
        RunError: with everything that differs and must not.
    """
    then, before = snapshot.facts.get("fingerprints", {}), snapshot.facts.get("settings", {})
    table = field_table()
    wrong, free = [], []
    for path, now in settings.items():
        was = before.get(path, table[path].default)  # a setting that came later had no effect then
        was = tuple(was) if isinstance(was, list) else was
        if was == now:
            continue
        line = f"{path} was {_shown(was)} and is {_shown(now)}"
        if path.startswith(FREE):
            free.append(f"Going on with another setting: {line}.")
        elif not path.startswith(ELSEWHERE):
            wrong.append(line)
    wrong += [f"the {key} differ{'' if key in {'pictures', 'steps'} else 's'}" for key in sorted(prints)
              if then.get(key) != prints[key]]  # fmt: skip
    if wrong:
        raise RunError(
            f"The checkpoint of step {snapshot.step} was made otherwise: {'; '.join(wrong)}.",
            "Restore what was changed, or start a new run.",
        )
    return free


def _shown(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def restore(published: Published, scaler: Any, snapshot: Snapshot) -> None:
    """Put a checkpoint's state in place.

    Raises:
        RunError: a part is missing or does not fit; nothing is silently started afresh.
    """
    try:
        published.load(snapshot.lora, snapshot.trained)
    except (KeyError, ValueError) as error:
        raise RunError(
            f"The checkpoint's LoRA does not fit: {error.args[0]}.", "The settings of the run were changed."
        ) from error
    restore_optimizer(published.optimizer, snapshot.optimizer)
    if scaler is not None:
        if not snapshot.scaler:
            raise RunError("The checkpoint has no gradient scaler.", "It was not trained in fp16.")
        scaler.load_state_dict(snapshot.scaler)
