"""What is known of a run: one frozen picture of it, made by `fold` from its events.

`RunState` is what status.json caches, what `loratui status --json` prints and what the panels draw.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

StateName = Literal[
    "queued",
    "held",
    "starting",
    "caching",
    "running",
    "paused",
    "stopping",
    "finished",
    "stopped",
    "failed",
    "crashed",
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
    """One picture drawn during training or after it: `path` is relative to the run directory.

    `label` says what it was drawn with, where that is not just the step: a strength, another base.
    """

    step: int
    index: int
    prompt: str
    seed: int
    path: str
    seconds: float = 0.0
    label: str = ""


@dataclass(slots=True)
class Captioned:
    """One picture that a caption run has finished.

    Attributes:
        rel: the picture, relative to the project.
        state: written, left (its caption stays) or failed.
        text: the caption as written.
        reason: why it was left or failed.
    """

    rel: str
    state: str = "written"
    text: str = ""
    reason: str = ""


@dataclass(slots=True)
class Progress:
    """A countable piece of work that is not a training step (loading, caching, verifying)."""

    what: str
    done: int
    total: int


@dataclass(slots=True)
class Memo:
    """What `fold` carries from one event to the next and no reader shows."""

    last_n: int = 0
    """Number of the newest event."""
    from_step: int = 0
    """Step this attempt began at."""
    took_over: bool = False
    """Whether the job of this attempt has named itself (before, the launcher speaks for it)."""
    oom_kills: int = -1
    """Kernel out-of-memory kills in the job's control group when it began; -1 unknown."""
    cgroup: str = ""
    """The file that counts them."""
    ema: float = 0.0
    """Sum of the losses, each weighted with the smoothing factor to the power of its age."""
    ema_weight: float = 0.0
    """Sum of those weights: ema / ema_weight is the smoothed loss."""
    marks: dict[int, list[float]] = field(default_factory=dict)
    """Step of a checkpoint -> ema, ema_weight, best_loss, val_loss there (nan for none)."""
    recent: list[list[float]] = field(default_factory=list)
    """Newest steps: [steps it stands for, seconds a step, pictures a step]."""
    parts: dict[str, float] = field(default_factory=dict)
    """Recent seconds by part of a step, fading."""
    parts_steps: float = 0.0
    """Steps in those seconds, fading alike."""
    saving_s: float = 0.0
    """Recent seconds of saves, fading as `overhead_s`."""
    sampling_s: float = 0.0
    """Recent seconds of samples, fading as `overhead_s`."""
    pace: dict[str, float] = field(default_factory=dict)
    """Seconds a step and of its parts while this attempt was fastest, over 50 steps."""
    pacing: dict[str, float] = field(default_factory=dict)
    """Sums of the 50 steps under way; `steps` counts them."""
    clock_at: float = 0.0
    """When the clock of running time was last read; 0 while it stands (pause, no step yet)."""
    overhead_s: float = 0.0
    """Running time outside of steps (saves, samples), fading."""
    overhead_steps: float = 0.0
    """Steps in that time, fading alike."""
    error: str = ""
    """Message of the newest `error` event of this attempt."""
    error_advice: str = ""
    lost: str = ""
    """What is known of a process of this attempt that was lost."""


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
    """When this attempt was launched."""
    updated_at: float = 0.0
    """Time of the newest event."""
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    loss_smooth: float | None = None
    best_loss: float | None = None
    val_loss: float | None = None
    quarters: list[float | None] = field(default_factory=list)
    """Newest mean loss of each quarter of the timesteps, clean to noisy."""
    lr: dict[str, float] = field(default_factory=dict)
    grad_norm: float | None = None
    step_s: float | None = None
    """Recent mean."""
    images_s: float | None = None
    """Pictures trained per second, recent mean."""
    times: dict[str, float] = field(default_factory=dict)
    """Share of time 0..1 by part: data, compute, optimizer, io, save, sample."""
    eta_s: float | None = None
    progress: Progress | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    """Newest `memory` event: device, allocated_gib, reserved_gib, peak_gib, rss_gib."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    captions: list[Captioned] = field(default_factory=list)
    """Newest 20 pictures of a caption run."""
    counts: dict[str, int] = field(default_factory=dict)
    """Pictures of a caption run so far: written, left, failed, pinned."""
    exported: str = ""
    verified: dict[str, list[int]] = field(default_factory=dict)
    """Consumer -> [matched, of]."""
    scores: dict[str, float] = field(default_factory=dict)
    acks: dict[str, str] = field(default_factory=dict)
    """Request id -> 'ok' or the reason of the refusal."""
    """Newest 200."""
    warnings: list[str] = field(default_factory=list)
    """Newest 100."""
    last_log: str = ""
    events: int = 0
    bad_lines: int = 0
    unknown_kinds: dict[str, int] = field(default_factory=dict)
    """Kinds of event this version does not know -> how many there were."""
    memo: Memo = field(default_factory=Memo)
