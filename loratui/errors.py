"""What can go wrong, as one tree.

    LoratuiError                     has `advice`: what to do next
    ├── RequestError (ValueError)    the request was wrong; exit code 2; may carry several problems
    │   ├── ConfigError              settings: unknown key, wrong type, values that exclude each other
    │   ├── ProjectError             the project folder or loratui.toml
    │   ├── DatasetError             pictures and captions
    │   ├── BaseModelError           the base checkpoint: missing, unreadable, of another family
    │   ├── WeightsError             a LoRA file: unreadable, not a LoRA, keys that match nothing
    │   ├── RunError                 a run directory: missing, locked by another, nothing to resume
    │   └── MissingPackageError      an optional package is not installed
    └── JobError (RuntimeError)      the job was right and failed; exit code 1
        ├── SaveError                a checkpoint could not be written (disk full, I/O error)
        ├── OutOfMemoryError         the device or the machine has too little memory for the settings
        ├── NonFiniteError           the loss or the weights became NaN or Inf
        └── LockedError              another process holds the run or the device

Every message is one sentence that names the thing; `advice` is one sentence that says what to do.
Assertions are for invariants of ours and never reach a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a setting, a file or a picture.

    Attributes:
        path: dotted config path (`network.rank`) or file path the finding is about.
        code: stable short name in kebab-case, for scripts (`unknown-key`).
        severity: `error` stops the request; `warning` and `info` do not.
        message: one sentence.
        where: `file:line` when it is known, else empty.
        advice: what to do, empty when the message already says it.
        fix: dotted config path -> value that mends it; empty when a person must decide.
    """

    path: str
    code: str
    severity: Severity
    message: str
    where: str = ""
    advice: str = ""
    fix: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_dict(self) -> dict[str, Any]:
        """The problem as plain JSON; what is empty is left out."""
        named = {"path", "code", "severity", "message"}
        shown = {k: str(v) for k, v in asdict(self).items() if k != "fix" and (v or k in named)}
        fix = {k: list(v) if isinstance(v, tuple) else v for k, v in self.fix.items()}
        return {**shown, "fix": fix} if fix else shown

    def __str__(self) -> str:
        head = f"{self.where}: " if self.where else ""
        name = f"{self.path}: " if self.path else ""
        tail = f" {self.advice}" if self.advice else ""
        return f"{head}{name}{self.message}{tail}"


class LoratuiError(Exception):
    """Root of the tree: a message for a person and the advice that goes with it."""

    exit_code = 1

    def __init__(self, message: str, advice: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.problems = problems


class RequestError(LoratuiError, ValueError):
    """The request was wrong; nothing was changed."""

    exit_code = 2


class ConfigError(RequestError):
    """Settings that cannot be used; `problems` lists all of them."""


class ProjectError(RequestError):
    """The project folder or its loratui.toml cannot be used."""


class DatasetError(RequestError):
    """Pictures or captions that cannot be used."""


class BaseModelError(RequestError):
    """The base checkpoint is missing, unreadable or of another family."""


class WeightsError(RequestError):
    """A weight file cannot be used as what it was given for."""


class RunError(RequestError):
    """The run directory cannot do what was asked."""


class MissingPackageError(RequestError):
    """An optional package is needed and not installed."""


class JobError(LoratuiError, RuntimeError):
    """The job started and failed."""


class SaveError(JobError):
    """A checkpoint could not be written; the last good one is kept."""


class NonFiniteError(JobError):
    """NaN or Inf where a finite number must be."""


class OutOfMemoryError(JobError):
    """The settings need more memory than there is; the advice lists what needs less."""


class LockedError(JobError):
    """Another process holds what this one needs."""
