"""A run directory: where each thing lies, how one is made and how one is found."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from pathlib import Path

from loratui.errors import RunError

_ID = re.compile(r"^(\d{8}-\d{6})-(.+)$")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")
_LONGEST_NAME = 48


class RunDir:
    """Paths of one run; making the object touches nothing on disk."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunDir) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def id(self) -> str:
        """`YYYYMMDD-HHMMSS-name`, the folder's name."""
        return self.path.name

    @property
    def name(self) -> str:
        """The part of the id after the date."""
        match = _ID.match(self.id)
        return match.group(2) if match else self.id

    @cached_property
    def events_path(self) -> Path:
        """The journal."""
        return self.path / "events.jsonl"

    @cached_property
    def status_path(self) -> Path:
        """The cache of the folded journal, with the heartbeat."""
        return self.path / "status.json"

    @property
    def log_path(self) -> Path:
        """Everything the job printed."""
        return self.path / "log.txt"

    @property
    def lock_path(self) -> Path:
        """Held by the one writer of the journal."""
        return self.path / "trainer.lock"

    @property
    def config_path(self) -> Path:
        """The resolved settings, frozen at launch."""
        return self.path / "run.toml"

    @property
    def manifest_path(self) -> Path:
        """The data set as it was at launch."""
        return self.path / "manifest.jsonl"

    @cached_property
    def control(self) -> Path:
        """Requests to the job, one file each."""
        return self.path / "control"

    @property
    def checkpoints_dir(self) -> Path:
        """`step-000250/` folders."""
        return self.path / "checkpoints"

    @property
    def samples_dir(self) -> Path:
        """`step-000250/` folders of PNGs."""
        return self.path / "samples"

    @property
    def export_dir(self) -> Path:
        """Finished weight files."""
        return self.path / "export"

    def exists(self) -> bool:
        """Whether this is a run directory on disk."""
        try:
            return self.config_path.is_file() or self.events_path.is_file()
        except OSError:  # a folder of somebody else's
            return False

    @classmethod
    def create(cls, project_runs: Path, name: str, now: datetime | None = None) -> RunDir:
        """Make a new, empty run directory; a taken id gets `-2`, `-3`, ...

        Raises:
            RunError: the folder cannot be written.
        """
        stamp = (now or datetime.now()).strftime("%Y%m%d-%H%M%S")
        stem = f"{stamp}-{slug(name)}"
        try:
            project_runs.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                path = project_runs / (stem if number == 1 else f"{stem}-{number}")
                try:
                    path.mkdir()  # atomic: of two who ask for the same id, one gets it
                    break
                except FileExistsError:
                    number += 1
            run = cls(path)
            for folder in (run.control, run.checkpoints_dir, run.samples_dir, run.export_dir):
                folder.mkdir()
        except OSError as error:
            raise RunError(
                f"The run folder cannot be made in {project_runs}: {error.strerror or error}.",
                "Check that the disk has room and that you may write there.",
            ) from error
        return run


def slug(name: str) -> str:
    """`name` as it may stand in a folder's name."""
    return _NOT_IN_NAMES.sub("-", name).strip("-.")[:_LONGEST_NAME].strip("-.") or "run"


def list_runs(project_runs: Path) -> list[RunDir]:
    """The runs of a project, newest first; an unreadable or missing folder has none."""
    try:
        names = sorted((p.name for p in project_runs.iterdir()), key=_age_key, reverse=True)
    except OSError:
        return []
    return [run for run in (RunDir(project_runs / name) for name in names) if run.exists()]


def _age_key(name: str) -> tuple[str, int, str]:
    """Sort by date, then by the number that a taken id got."""
    match = _ID.match(name)
    if not match:
        return "", 0, name
    number = re.search(r"-(\d+)$", match.group(2))
    return match.group(1), int(number.group(1)) if number else 1, name


def runs_folders(cwd: Path) -> list[Path]:
    """The `runs/` folders that a command given in `cwd` means: its own, or those of the folders above."""
    cwd = cwd.absolute()
    found = []
    for folder in (cwd, *cwd.parents):
        if folder.name == "runs":
            found.append(folder)
        if (folder / "runs").is_dir():
            found.append(folder / "runs")
        if (folder / "loratui.toml").is_file():
            break
    return found


def find_run(text: str, cwd: Path) -> RunDir:
    """The run that a person means: a path, an id, the start of an id, a name (its newest run), or `last`.

    Raises:
        RunError: none fits, or several do.
    """
    path = (cwd / Path(text).expanduser()).absolute()
    near_by = RunDir(path if path.is_dir() else path.parent)
    if path.exists() and near_by.exists():
        return near_by
    runs = [run for folder in runs_folders(cwd) for run in list_runs(folder)]
    if path.is_dir():  # a project or its runs folder: its newest run
        inside = list_runs(path) or list_runs(path / "runs")
        if inside:
            return inside[0]
    if not runs:
        raise RunError(
            f"No run {text!r}: there are no runs here.",
            "Give the path of a run folder, or go to the project's folder first.",
        )
    if text == "last":
        return max(runs, key=lambda run: _age_key(run.id))
    for matches in ([r for r in runs if r.id == text], [r for r in runs if r.name == text][:1]):
        if matches:
            return matches[0]
    begun = [run for run in runs if run.id.startswith(text) or run.name.startswith(text)] if text else []
    if len(begun) == 1:
        return begun[0]
    if begun:
        shown = ", ".join(run.id for run in begun[:5]) + (", ..." if len(begun) > 5 else "")
        raise RunError(f"{text!r} fits {len(begun)} runs: {shown}.", "Give more of the id, or `last`.")
    import difflib

    near = difflib.get_close_matches(text, [run.id for run in runs] + [run.name for run in runs], n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise RunError(f"There is no run {text!r}.", f"{hint}`loratui runs` lists them; `last` is the newest.")
