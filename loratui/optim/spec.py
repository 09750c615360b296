"""The optimizers as light rows: what menus, checks and estimates need to know. Imports nothing.

To add one: write its file with a settings dataclass, add its row here; menus and tests find it by that.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """One optimizer.

    Attributes:
        name: the name in `optimizer.name`.
        title: for people.
        settings: `module:Class` of its settings dataclass.
        notes: one line on when to take it.
        package: what `pip install` calls the package it needs beyond torch, empty for none.
        state_bytes: bytes of state per trained weight.
        adaptive: finds its own learning rate; `optimizer.lr` multiplies it and is 1 as a rule.
        averaging: averages the weights itself and wants no schedule but a warm-up (schedule-free).
        cuda: works on CUDA only.
    """

    name: str
    title: str
    settings: str
    notes: str
    package: str = ""
    state_bytes: float = 8.0
    adaptive: bool = False
    averaging: bool = False
    cuda: bool = False

    @property
    def module(self) -> str:
        """What `import` calls its package, empty for none."""
        return self.package.replace("-", "_")


_AT = "loratui.optim."
OPTIMIZERS: tuple[OptimizerSpec, ...] = (
    OptimizerSpec("adamw", "AdamW", _AT + "adamw:AdamW", "the safe choice"),
    OptimizerSpec(
        "adamw8bit", "AdamW 8-bit", _AT + "eight_bit:AdamW8bit", "AdamW with a quarter of the state",
        "bitsandbytes", 2.0,
    ),
    OptimizerSpec(
        "paged_adamw8bit", "AdamW 8-bit, paged", _AT + "eight_bit:PagedAdamW8bit",
        "the state moves to main memory when the card is full", "bitsandbytes", 2.0, cuda=True,
    ),
    OptimizerSpec(
        "adafactor", "Adafactor", _AT + "adafactor:Adafactor", "next to no state; usual for large models",
        state_bytes=0.5,
    ),
    OptimizerSpec(
        "lion", "Lion", _AT + "lion:Lion", "the sign of the momentum; a third of AdamW's rate",
        "pytorch-optimizer", 4.0,
    ),
    OptimizerSpec(
        "lion8bit", "Lion 8-bit", _AT + "eight_bit:Lion8bit", "Lion with a quarter of the state",
        "bitsandbytes", 1.0,
    ),
    OptimizerSpec(
        "prodigy", "Prodigy", _AT + "prodigy:Prodigy", "finds its own rate; set lr to 1", "prodigyopt", 16.0,
        adaptive=True,
    ),
    OptimizerSpec(
        "dadaptation", "D-Adaptation (Adam)", _AT + "dadaptation:DAdaptation",
        "finds its own rate; set lr to 1, or 0.5 where it runs away", "pytorch-optimizer", 12.0,
        adaptive=True,
    ),
    OptimizerSpec(
        "schedule_free", "AdamW, schedule-free", _AT + "schedule_free:ScheduleFree",
        "no schedule to choose; averages the weights", "schedulefree", 8.0, averaging=True,
    ),
    OptimizerSpec(
        "came", "CAME", _AT + "came:Came", "Adafactor's memory, steadier; usual for DiT models",
        "pytorch-optimizer", 4.5,
    ),
    OptimizerSpec(
        "muon", "Muon", _AT + "muon:Muon", "orthogonal updates for matrices, AdamW for the rest",
        "pytorch-optimizer", 4.0,
    ),
    OptimizerSpec(
        "other", "Any of pytorch-optimizer", _AT + "other:Other", "the class that optimizer.other names",
        "pytorch-optimizer", 8.0,
    ),
)  # fmt: skip


def optimizer_spec(name: str) -> OptimizerSpec | None:
    """The row of that name."""
    return next((spec for spec in OPTIMIZERS if spec.name == name), None)
