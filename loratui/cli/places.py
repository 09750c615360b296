"""What commands share: which project or run is meant, and how a run is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from loratui.project import Project
    from loratui.runs.directory import RunDir
    from loratui.runs.state import RunState


def project_at(folder: str) -> Project:
    """The project in a folder."""
    from loratui.project import Project

    return Project.open(folder)


def run_named(text: str) -> RunDir:
    """The run that is meant by a path, an id or its beginning, a name, or `last`."""
    from loratui.runs.directory import find_run

    return find_run(text, Path.cwd())


def lora_path(run: RunDir, state: RunState) -> str:
    """Absolute path of the exported file, or an empty string."""
    if not state.exported:
        return ""
    return str(run.path / state.exported)


def target_path(args: argparse.Namespace, default: Path, source: Path | None = None) -> Path:
    """Where a command writes: --out, as a file or a folder, or the default.

    Args:
        args: of the command, with `out` and `force`.
        default: file or folder.
        source: of an export, what is read; it, and a default that is there, may be replaced.

    Raises:
        WeightsError: another file is there, and --force is not.
    """
    target = Path(args.out).expanduser() if args.out else default
    if target.is_dir() and default.suffix:
        target = target / default.name
    if default.suffix == ".safetensors" and target.suffix != ".safetensors":
        target = target.with_name(f"{target.name}.safetensors")
    own = () if source is None else (source,) if args.out else (source, default)
    spare(target, args.force, own)
    return target


def spare(target: Path, force: bool, own: Sequence[Path] = ()) -> None:
    """Refuse to replace a file unasked, unless it is one of `own`.

    Raises:
        WeightsError: it is there.
    """
    from loratui.errors import WeightsError

    if target.exists() and not force and target.resolve() not in [path.resolve() for path in own]:
        raise WeightsError(f"{target} exists already.", "Give another --out, or --force to replace it.")


def summary(run: RunDir, state: RunState) -> dict[str, Any]:
    """A run as one JSON object of a list."""
    return {
        "id": run.id,
        "name": state.name or run.name,
        "path": str(run.path),
        "state": state.state,
        "job": state.job,
        "preset": state.preset,
        "family": state.family,
        "step": state.step,
        "steps": state.steps,
        "loss": state.loss_smooth if state.loss_smooth is not None else state.loss,
        "best_loss": state.best_loss,
        "val_loss": state.val_loss,
        "scores": dict(state.scores),
        "eta_s": state.eta_s,
        "took_s": max(0.0, state.updated_at - state.created_at) if state.created_at else None,
        "created_at": state.created_at,
        "lora": lora_path(run, state),
        "reason": state.reason,
    }


def learning_rate(state: RunState) -> float | None:
    """The learning rate, the largest where groups differ."""
    return max(state.lr.values()) if state.lr else None
