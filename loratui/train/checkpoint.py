"""Checkpoints that survive kill -9 and a full disk.

A save writes into a hidden folder beside the others: each file is fsynced, manifest.json with the SHA-256 of
each file comes last, then the folder is renamed into place and its parent fsynced. Older checkpoints are
pruned only after that. At every moment the newest complete checkpoint is therefore whole.

    step-000250/lora.safetensors             the LoRA under kohya names, fp32; loads anywhere as it is
    step-000250/state/optimizer.safetensors  the optimizer's tensors
    step-000250/state/state.json             counters, parameter groups, scaler, fingerprints
    step-000250/state/trained.safetensors    weights as trained, when the LoRA file holds an average of them
    step-000250/manifest.json                SHA-256 of the files above, written last

No pickle anywhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from loratui.errors import RunError, SaveError

FORMAT = 1
LORA = "lora.safetensors"
OPTIMIZER = "state/optimizer.safetensors"
STATE = "state/state.json"
TRAINED = "state/trained.safetensors"
MANIFEST = "manifest.json"


@dataclass(slots=True)
class Snapshot:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        step: optimizer steps done.
        lora: the adapter's tensors, as people get them.
        trained: as they are trained, where that is not the same.
        optimizer: `state_dict()` of the optimizer.
        scaler: `state_dict()` of the gradient scaler, empty without one.
        facts: counters, prompts and fingerprints, plain JSON.
        metadata: text metadata of the LoRA file.
    """

    step: int
    lora: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    trained: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint on disk."""

    step: int
    path: Path
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Bad:
    """A checkpoint that cannot be used, and why."""

    path: Path
    reason: str


class Checkpoints:
    """The checkpoints folder of one run."""

    def __init__(self, folder: Path, keep: int) -> None:
        """Keep the newest `keep` checkpoints, at least 2."""
        self.folder, self.keep = folder, max(2, keep)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:06d}"

    def all(self) -> list[Saved]:
        """Checkpoints in place, newest first, unverified."""
        found = []
        for path in self.folder.glob("step-*"):
            digits = path.name.removeprefix("step-")
            if path.is_dir() and digits.isdigit():
                found.append(Saved(int(digits), path))
        return sorted(found, key=lambda c: -c.step)

    def save(self, snapshot: Snapshot) -> Saved:
        """Write a checkpoint; see the module's text for the order of things.

        Raises:
            SaveError: the disk is full or failing; what was there before is untouched.
        """
        started = time.perf_counter()
        target = self.path(snapshot.step)
        temporary = self.folder / f".saving-{target.name}-{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            size = self._write(temporary, snapshot)
            self._replace(temporary, target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _save_error(error, self.folder) from error
        return Saved(snapshot.step, target, size, time.perf_counter() - started)

    def _write(self, temporary: Path, snapshot: Snapshot) -> int:
        tensors, groups = _flatten_optimizer(snapshot.optimizer)
        state = {
            "format": FORMAT,
            "step": snapshot.step,
            "groups": groups,
            "scaler": snapshot.scaler,
            **snapshot.facts,
        }
        files = {
            LORA: save_tensors(snapshot.lora, metadata=snapshot.metadata or None),
            OPTIMIZER: save_tensors(tensors),
            STATE: json.dumps(state, indent=1).encode(),
        }
        if snapshot.trained:
            files[TRAINED] = save_tensors(snapshot.trained)
        (temporary / "state").mkdir(parents=True)
        for name, data in files.items():
            write_synced(temporary / name, data)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        manifest = {"format": FORMAT, "step": snapshot.step, "sha256": hashes}
        write_synced(temporary / MANIFEST, json.dumps(manifest, indent=1).encode())
        sync_folder(temporary / "state")
        sync_folder(temporary)
        return sum(len(data) for data in files.values())

    def _replace(self, temporary: Path, target: Path) -> None:
        old: Path | None = None
        if target.exists():  # an earlier attempt got here too, or left it damaged
            old = self.folder / f".replaced-{target.name}-{uuid.uuid4().hex[:8]}"
            target.rename(old)
        temporary.rename(target)
        sync_folder(self.folder)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def prune(self) -> list[Saved]:
        """Remove all but the newest `keep`, and what broken-off saves left behind; returns what went.

        Raises:
            SaveError: the disk is failing; the newest are untouched.
        """
        gone = self.all()[self.keep :]
        for saved in gone:
            # Renamed first: a removal that breaks off must not leave half a checkpoint under its name.
            doomed = self.folder / f".pruned-{saved.path.name}-{uuid.uuid4().hex[:8]}"
            try:
                saved.path.rename(doomed)
            except OSError as error:
                raise _save_error(error, self.folder) from error
        for leftover in (
            p for p in self.folder.glob(".*") if p.name.startswith((".saving-", ".replaced-", ".pruned-"))
        ):
            shutil.rmtree(leftover, ignore_errors=True)
        return gone

    def newest(self) -> tuple[Snapshot | None, list[Bad]]:
        """The newest checkpoint that is whole, and the newer ones that are not.

        Raises:
            RunError: there are checkpoints and none of them is whole: never a silent fresh start.
        """
        bad: list[Bad] = []
        for saved in self.all():
            try:
                return load(saved.path), bad
            except RunError as error:
                bad.append(Bad(saved.path, error.message))
        if bad:
            raise RunError(
                f"None of the {len(bad)} checkpoints can be read: {bad[0].reason}",
                "Start a new run, or restore the checkpoints folder from a backup.",
            )
        return None, bad


def load(path: Path) -> Snapshot:
    """Read a checkpoint, checking every file against its hash.

    Raises:
        RunError: a file is missing, damaged, or of a newer format.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise RunError(f"{path.name} has format {manifest['format']}, not {FORMAT}.", "Update loratui.")
        data = {}
        averaged = (TRAINED,) if TRAINED in manifest["sha256"] else ()
        if set(manifest["sha256"]) != {LORA, OPTIMIZER, STATE, *averaged}:
            raise RunError(f"{path.name}/{MANIFEST} names other files.", "An older checkpoint is used.")
        for name in (LORA, OPTIMIZER, STATE, *averaged):
            data[name] = (path / name).read_bytes()
            if hashlib.sha256(data[name]).hexdigest() != manifest["sha256"][name]:
                raise RunError(
                    f"{path.name}/{name} is damaged: its hash differs.", "An older checkpoint is used."
                )
        state = json.loads(data[STATE])
        if state["step"] != manifest["step"]:
            raise RunError(f"{path.name}/{MANIFEST} is of another step.", "An older checkpoint is used.")
        lora, tensors = load_tensors(data[LORA]), load_tensors(data[OPTIMIZER])
        trained = load_tensors(data[TRAINED]) if averaged else {}
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunError(
            f"{path.name} cannot be read: {str(error) or type(error).__name__}.",
            "An older checkpoint is used.",
        ) from error
    groups, scaler = state.pop("groups"), state.pop("scaler")
    state.pop("format")
    return Snapshot(
        step=state.pop("step"),
        lora=lora,
        optimizer=_unflatten_optimizer(tensors, groups),
        scaler=scaler,
        facts=state,
        trained=trained,
    )


def _flatten_optimizer(state_dict: dict[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Tensors by `parameter.name` or `group.N.name`; the rest is JSON (floats survive that exactly)."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state_dict["state"].items():
        for name, value in _entries(entries):
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                plain.setdefault(str(index), {})[name] = value
    groups = []
    for number, group in enumerate(state_dict["param_groups"]):
        for name, value in group.items():
            if isinstance(value, Tensor):
                tensors[f"group.{number}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
        groups.append({k: v for k, v in group.items() if not isinstance(v, Tensor)})
    return tensors, [{"groups": groups, "plain": plain}]


def _unflatten_optimizer(tensors: dict[str, Tensor], stored: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    groups = stored[0]["groups"]
    for full, tensor in tensors.items():
        index, name = full.split(".", 1)
        if index == "group":
            number, name = name.split(".", 1)
            groups[int(number)][name] = tensor
        else:
            _put(state.setdefault(int(index), {}), name, tensor)
    for index, entries in stored[0]["plain"].items():
        for name, value in entries.items():
            _put(state.setdefault(int(index), {}), name, value)
    for group in groups:
        if "betas" in group:
            group["betas"] = tuple(group["betas"])
    return {"state": state, "param_groups": groups}


def _entries(entries: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and values of a parameter's state; bitsandbytes keeps a table within it: `table/name`."""
    found: list[tuple[str, Any]] = []
    for name, value in entries.items():
        if isinstance(value, dict) and value:
            found += [(f"{name}/{inner}", one) for inner, one in value.items()]
        else:
            found.append((name, value))
    return found


def _put(entries: dict[str, Any], name: str, value: Any) -> None:
    table, slash, inner = name.partition("/")
    if slash:
        entries.setdefault(table, {})[inner] = value
    else:
        entries[name] = value


def restore_optimizer(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Load a state into an optimizer over the same parameters.

    Raises:
        RunError: it is the state of other parameters, or a part of it is missing.
    """
    # JSON knows no tuples: what is one in the fresh optimizer becomes one again.
    fresh = optimizer.state_dict()["param_groups"]
    groups = [
        {key: _like(now.get(key), value) for key, value in group.items()}
        for now, group in zip(fresh, state_dict["param_groups"], strict=False)
    ]
    try:
        if len(groups) != len(fresh) or len(state_dict["param_groups"]) != len(fresh):
            raise ValueError(f"{len(state_dict['param_groups'])} groups of parameters, not {len(fresh)}")
        for now, group in zip(fresh, groups, strict=True):
            if missing := sorted(set(now) - set(group)):
                raise ValueError(f"{missing[0]} is missing")
        optimizer.load_state_dict({"state": state_dict["state"], "param_groups": groups})
    except (ValueError, KeyError, RuntimeError) as error:
        raise RunError(
            f"The checkpoint's optimizer state does not fit: {error}.",
            "The settings of the run were changed.",
        ) from error
    # load_state_dict casts to the parameter's type; a state keeps its own.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entries in state_dict["state"].items():
        held = optimizer.state[parameters[index]]
        for name, value in entries.items():
            now = held.get(name)
            if isinstance(value, Tensor) and isinstance(now, Tensor) and now.dtype != value.dtype:
                held[name] = value.to(now.device)


def _like(template: Any, value: Any) -> Any:
    if isinstance(template, tuple | list) and isinstance(value, list):
        inner = template if len(template) == len(value) else (None,) * len(value)
        return type(template)(_like(t, v) for t, v in zip(inner, value, strict=True))
    return value


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable; file systems that cannot are left alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        SaveError: the disk is full or failing.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_synced(temporary, data)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _save_error(error, path.parent) from error


def _save_error(error: OSError, folder: Path) -> SaveError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        advice = "Free some space, then resume: the last good checkpoint is kept."
        return SaveError(f"The disk of {folder} is full.", advice)
    if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return SaveError(
            f"{folder} cannot be written: {error.strerror}.", "Make the folder writable, then resume."
        )
    return SaveError(
        f"Writing to {folder} failed: {error.strerror or error}.",
        "Check the disk, then resume: the last good checkpoint is kept.",
    )
