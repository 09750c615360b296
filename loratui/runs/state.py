"""What is known of a run: one frozen picture of it, made by `fold` from its events.

`RunState` is what status.json caches, what `loratui status --json` prints and what the panels draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

StateName = Literal[
    "queued", "held", "starting", "caching", "running", "paused", "stopping", "finished", "stopped", "failed", "crashed"
]
ENDED: frozenset[str] = frozenset({"finished", "stopped", "failed", "crashed"})


@dataclass(slots=True)
class Checkpoint:
    """One checkpoint on disk: `path` is relative to the run directory."""

    step: int
    path: str
    seconds: float = 0.0
    bytes: int = 0


@dataclass(slots=True)
class Sample:
    """One picture drawn during training: `path` is relative to the run directory."""

    step: int
    index: int
    prompt: str
    seed: int
    path: str
    seconds: float = 0.0


@dataclass(slots=True)
class Progress:
    """A countable piece of work that is not a training step (loading, caching, verifying)."""

    what: str
    done: int
    total: int


@dataclass(slots=True)
class RunState:
    """Everything folded from the events of one run (no curves: see `Curves`).

    Units: seconds for *_s, unix time for *_at, GiB for *_gib.
    """

    run_id: str = ""
    job: str = "train"
    name: str = ""
    base: str = ""
    preset: str = ""
    family: str = ""
    state: StateName = "queued"
    reason: str = ""
    advice: str = ""
    attempt: int = 0
    host: str = ""
    pid: int = 0
    process_start: float = 0.0
    boot_id: str = ""
    device: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    updated_at: float = 0.0
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    loss_smooth: float | None = None
    best_loss: float | None = None
    val_loss: float | None = None
    lr: dict[str, float] = field(default_factory=dict)
    grad_norm: float | None = None
    step_s: float | None = None
    images_s: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    """Share of time 0..1 by part: data, compute, optimizer, io."""
    eta_s: float | None = None
    progress: Progress | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    """Newest `memory` event, see docs of runs.events."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    exported: str = ""
    verified: dict[str, list[int]] = field(default_factory=dict)
    """Consumer -> [matched, of]."""
    scores: dict[str, float] = field(default_factory=dict)
    acks: dict[str, str] = field(default_factory=dict)
    """Request id -> 'ok' or the reason of the refusal."""
    warnings: list[str] = field(default_factory=list)
    last_log: str = ""
    events: int = 0
    bad_lines: int = 0
    unknown_kinds: list[str] = field(default_factory=list)
