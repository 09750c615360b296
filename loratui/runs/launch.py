"""Starting a job that no closed terminal can end, and starting it again where it stopped.

The launcher is the journal's first writer: under the run's lock it opens the attempt, starts the process and
names it, then lets go; the process takes the lock over. So of many launchers one wins, and a job that dies
before its first word still has a name that readers can look up.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec

import loratui
from loratui.errors import LockedError, MissingPackageError, RequestError, RunError
from loratui.paths import PACKAGE, config_dir
from loratui.runs import control, queue, spawn
from loratui.runs.devices import wanted
from loratui.runs.directory import RunDir
from loratui.runs.journal import Journal
from loratui.runs.liveness import (
    LOG_MARK,
    is_left_behind,
    observed_state,
    oom_counter,
    process_identity,
)
from loratui.runs.lock import RunLock
from loratui.runs.state import ENDED, RunState

TRAINING = ("torch", "diffusers", "transformers", "peft", "safetensors")
"""The packages a job needs."""
_ADVICE = (
    "Install them with `pip install 'loratui[train]'`, or set LORATUI_PYTHON to an interpreter that has them."
)
_SPAWN_S = 60.0
_LOCK_S = 2.0
_MOST_PROCESSES = 64
_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")


def launch(
    run: RunDir, job: str, python: str | None = None, env: dict[str, str] | None = None, launcher: str = ""
) -> int:
    """Start `python -m loratui.jobs.JOB RUN`, detached; returns the job's pid, or that of its launcher.

    Args:
        run: a run directory that no job was started in yet.
        job: a module of `loratui.jobs`, or the full name of another module.
        python: interpreter; `job_python()` when None.
        env: changes to the environment of the job.
        launcher: `torchrun` starts even one process through it; several are always started so.

    Raises:
        LockedError: the run is being started or goes on already.
        RunError: it was started before (see `resume`), or the process cannot be started.
        MissingPackageError: no interpreter has torch.
    """
    python = python or job_python()
    with _Writing(run) as journal:
        if journal.attempt:
            raise RunError(
                f"The run {run.id} was started before; it is {observed_state(journal.state, run=run).state}.",
                f"Use `loratui resume {run.id}` to go on with it.",
            )
        return _start(journal, job, python, env, from_step=0, launcher=launcher)


def resume(run: RunDir, python: str | None = None, env: dict[str, str] | None = None) -> int:
    """Start the job of a run that ended early again from its newest checkpoint; returns the job's pid.

    Raises:
        LockedError: the run goes on already.
        RunError: it is finished, or was never started.
        MissingPackageError: no interpreter has torch.
    """
    if not run.exists():
        raise RunError(f"{run.path} is not a run.", "`loratui runs` lists the runs of a project.")
    python = python or job_python()
    with _Writing(run) as journal:
        state = journal.state
        if state.state == "finished":
            raise RunError(
                f"The run {run.id} is finished.",
                "Start a new run with more steps, or export this one's LoRA.",
            )
        job = state.job if state.attempt else str(run_table(run).get("job") or "train")
        return _start(journal, job, python, env, from_step=newest_checkpoint(run))


def newest_checkpoint(run: RunDir) -> int:
    """Step of the newest whole checkpoint, 0 for none: its manifest is there and so is each file it lists."""
    steps = []
    for manifest in run.checkpoints_dir.glob("step-*/manifest.json"):
        number = manifest.parent.name.removeprefix("step-")
        if number.isdecimal() and _whole(manifest):
            steps.append(int(number))
    return max(steps, default=0)


def _whole(manifest: Path) -> bool:
    try:
        listed = msgspec.json.decode(manifest.read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    if not isinstance(listed, dict):
        return False
    files = listed.get("files")
    return all((manifest.parent / name).is_file() for name in (files if isinstance(files, dict) else ()))


class _Writing:
    """The run's lock and its journal, held together by a launcher."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.lock = RunLock(run)

    def __enter__(self) -> Journal:
        if not self.run.path.is_dir():
            raise RunError(f"{self.run.path} is not there.", "`loratui runs` lists the runs of a project.")
        self.lock.acquire(_LOCK_S)
        try:
            self.journal = Journal(self.run, heartbeat=False)
            refuse_while_alive(self.run, self.journal.state)
        except BaseException:
            self.lock.release()
            raise
        return self.journal

    def __exit__(self, *error: object) -> None:
        self.journal.close()
        self.lock.release()


def refuse_while_alive(run: RunDir, state: RunState) -> None:
    """For the lock's holder: raise LockedError when the process the journal names lives without it.

    Such a process is about to take the lock over, or the lock does not exclude on this disk.
    """
    if not state.pid or state.state in ENDED:  # a launcher that named nobody has died: it held the lock
        return
    if is_left_behind(state):
        return
    if observed_state(state, run=run).state != "crashed":
        raise LockedError(
            f"The run {run.id} is in use by process {state.pid} on {state.host} ({state.state}).",
            f"Watch it with `loratui attach {run.id}`, or stop it first.",
        )


def _start(
    journal: Journal, job: str, python: str, env: dict[str, str] | None, from_step: int, launcher: str = ""
) -> int:
    """Open an attempt, start its process and name it."""
    run = journal.run
    module = f"loratui.jobs.{job}" if (PACKAGE / "jobs" / f"{job}.py").is_file() else job
    program = _program(python)
    open_attempt(journal, job, from_step)
    command = [sys.executable, "-I", "-S", str(spawn.__file__), str(run.log_path), str(run.path)]
    processes = processes_of(run)
    several = processes > 1 or launcher == "torchrun"
    want, me = wanted(run_document(run), {**os.environ, **(env or {})}), process_identity()
    if want is not None:  # it waits for its device, then becomes the job
        queue.enter(run, want, me)
        command += [program, "-m", "loratui.jobs.queued", str(run.path)]
    command += [program, *(_torchrun(processes) if several else ()), "-m", module, str(run.path)]
    try:
        done = subprocess.run(
            command,
            env=_environment(run, journal.attempt, env) | (shares(processes, env) if several else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SPAWN_S,
            start_new_session=True,
        )
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        if want is not None:
            queue.leave(run)
        reason = f"The job could not be started with {python}: {problem}."
        advice = "Check LORATUI_PYTHON or `jobs.python` in the user config."
        journal.write("state", state="failed", reason=reason, advice=advice)
        raise RunError(reason, advice)
    pid = int(done.stdout)
    identify(journal, pid, launcher=True)
    if want is not None:
        queue.hand_over(run, me, process_identity(pid))
    return pid


def processes_of(run: RunDir) -> int:
    """How many processes the settings of a run ask for (the job says what is wrong with them)."""
    count = _section(run_document(run), "memory").get("processes", 1)
    return count if isinstance(count, int) and 1 <= count <= _MOST_PROCESSES else 1


def _torchrun(processes: int) -> list[str]:
    """What goes before `-m JOB RUN` for that many processes on this machine; none is started again."""
    return [
        "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--max-restarts", "0",
        "--nproc-per-node", str(processes),
    ]  # fmt: skip


def shares(processes: int, env: dict[str, str] | None = None) -> dict[str, str]:
    """Environment of processes beside each other: cores divided (torchrun would give one), loopback only."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {
        "OMP_NUM_THREADS": str(max(1, cores // processes)),
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "20",
    }
    return {name: (env or {}).get(name, os.environ.get(name, value)) for name, value in wanted.items()}


def identify(journal: Journal, pid: int, device: str = "", launcher: bool = False) -> None:
    """Write who works on the run from now on; a launcher says so when it speaks for the job."""
    file, count = oom_counter()
    who = process_identity(pid).as_dict()
    journal.write(
        "process",
        **who,
        device=device,
        cgroup=file,
        oom_kills=count,
        **({"launcher": True} if launcher else {}),
    )


def open_attempt(journal: Journal, job: str, from_step: int) -> None:
    """Write the events an attempt begins with; requests made before it are answered `expired`."""
    run = journal.run
    for old in control.pending(run):
        journal.write("ack", id=old.id, request=old.kind, ok=False, reason="expired")
        control.remove(run, old)
    attempt = journal.attempt + 1
    fields: dict[str, Any] = {"run_id": run.id, "job": job, "attempt": attempt, "from_step": from_step}
    table, document = run_table(run), run_document(run)
    for key in ("name", "base", "preset", "family", "steps", "epochs", "trigger"):
        if key in table:
            fields[key] = table[key]
    fields.setdefault("name", run.name)
    if "base" not in table:
        fields["base"] = _section(document, "model").get("base", table.get("base_path", ""))
    if not journal.state.prompts:
        fields["prompts"] = list(_section(document, "samples").get("prompts", ()))
    journal.write("opened", **fields, version=loratui.__version__)
    journal.write("state", state="starting")
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with run.log_path.open("a", encoding="utf-8") as log:
        log.write(f"{LOG_MARK} {loratui.__version__}, {stamp}, attempt {attempt} from step {from_step}\n")


def run_document(run: RunDir) -> dict[str, Any]:
    """run.toml as it is, empty when it is missing or broken (the job then says why)."""
    try:
        return tomllib.loads(run.config_path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def run_table(run: RunDir) -> dict[str, Any]:
    """The `[run]` table of run.toml."""
    return _section(run_document(run), "run")


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name)
    return table if isinstance(table, dict) else {}


def _environment(run: RunDir, attempt: int, changes: dict[str, str] | None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    env |= {
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # a fault before the job can say so itself
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # cuda:1 is the GPU that nvidia-smi and the queue call 1
        "PYTHONSAFEPATH": "1",  # the job's folder is the run's: nothing in it is code
        "LORATUI_RUN": str(run.path),
        "LORATUI_ATTEMPT": str(attempt),
    }
    env.setdefault("TOKENIZERS_PARALLELISM", "false")
    env.setdefault("NO_COLOR", "1")
    if Path(str(run_table(run).get("base_path") or "")).is_absolute():
        env.setdefault("HF_HUB_OFFLINE", "1")  # the base is on this disk: nothing to ask the network for
    source = PACKAGE.parent
    if source.name not in {"site-packages", "dist-packages"}:  # a checkout: the job runs the same code
        env["PYTHONPATH"] = os.pathsep.join(p for p in (str(source), env.get("PYTHONPATH", "")) if p)
    return env | (changes or {})


def _program(python: str) -> str:
    """The absolute path of an interpreter given by path or by name."""
    import shutil

    found = shutil.which(python)
    if not found:
        raise RunError(
            f"The interpreter {python} is not there or cannot be executed.",
            "Check LORATUI_PYTHON or `jobs.python` in the user config.",
        )
    return str(Path(found).absolute())  # not resolved: a virtual environment is known by its link


def job_python(package: str = "") -> str:
    """The Python that jobs run with: LORATUI_PYTHON, else `jobs.python` of the user config, else this one.

    Args:
        package: what `pip install` calls one more package that the job needs.

    Raises:
        MissingPackageError: it lacks torch or another package that training needs.
        RequestError: the user config cannot be read.
    """
    named = named_python()
    if named:
        program = _program(str(Path(named).expanduser()) if "/" in named else named)
        if Path(program) != Path(sys.executable):
            _check_elsewhere(program, package)
            return program
    if package and importlib.util.find_spec(package.replace("-", "_")) is None:
        raise MissingPackageError(
            f"The settings need the package {package}, which is not installed.",
            f"Install it with `{sys.executable} -m pip install {package}`.",
        )
    missing = [name for name in TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Training needs packages that are not installed: {', '.join(missing)}.", _ADVICE
        )
    return sys.executable


def named_python() -> str:
    """The interpreter that the user named for jobs, empty for none.

    Raises:
        RequestError: the user config cannot be read.
    """
    return os.environ.get("LORATUI_PYTHON") or _configured_python()


def _configured_python() -> str:
    path = config_dir() / "config.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise RequestError(
            f"The user config {path} cannot be read: {error}.", "Correct or remove it."
        ) from error
    return str(_section(document, "jobs").get("python") or "")


def _check_elsewhere(program: str, package: str = "") -> None:
    """Ask another interpreter for the packages; loratui itself it has, or gets from a checkout."""
    extra = [package.replace("-", "_")] if package else []
    needed = [*TRAINING, "msgspec", "platformdirs", *extra]
    if PACKAGE.parent.name in {"site-packages", "dist-packages"}:
        needed.append("loratui")
    code = "import sys\nfrom importlib.util import find_spec as f\n"
    code += "print(*sys.version_info[:2], *[n for n in sys.argv[1:] if not f(n)])"
    try:
        done = subprocess.run(
            [program, "-c", code, *needed], capture_output=True, text=True, timeout=_SPAWN_S
        )
        major, minor, *missing = done.stdout.split()
        old = (int(major), int(minor)) < (3, 11)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise RunError(
            f"The interpreter {program} does not work: {error}.",
            "Check LORATUI_PYTHON or `jobs.python` in the user config.",
        ) from error
    if old:
        raise MissingPackageError(
            f"{program} is Python {major}.{minor}; loratui needs 3.11 or newer.", _ADVICE
        )
    if missing and missing == extra:
        raise MissingPackageError(
            f"The settings need the package {package}, which {program} lacks.",
            f"Install it with `{program} -m pip install {package}`.",
        )
    if missing:
        raise MissingPackageError(
            f"{program} lacks packages that training needs: {', '.join(missing)}.", _ADVICE
        )
