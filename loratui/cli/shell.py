"""From arguments to an exit code: the parser, the choice of command, the end of every error."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import loratui
from loratui.cli.output import Output

Command = Callable[[argparse.Namespace, Output], int]
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
COMMAND = re.compile(r"[a-z]+")
"""What all names of commands look like: a folder of another name opens the app, and imports none of them."""


class UsageError(Exception):
    """The arguments do not fit; carries the usage line of the command they were given to."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of exiting, so that errors look like all others."""

    intermixed = False
    """Whether options may stand among the arguments: `edit DIR remove --dry-run hat`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, and with options anywhere where that is wanted."""
        if not self.intermixed:
            return super().parse_known_args(args, namespace)
        self.intermixed = False  # it calls this again, twice
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.intermixed = True

    def error(self, message: str) -> NoReturn:
        """Raise the message as a `UsageError`."""
        raise UsageError(message, " ".join(self.format_usage().split()))


_ALONE = {"status": "runs"}
"""Commands that a shell prompt asks for, and their group: no other group is imported for them."""


def build_parser(command: str = "") -> tuple[Parser, dict[str, Parser]]:
    """The parser, and the commands by name; for some commands of their own group alone."""
    parser = Parser(
        prog="loratui",
        description="Train diffusion LoRAs in the terminal. Without a command: the app on DIR, or here.",
        epilog="Exit codes: 0 done, 1 the job failed, 2 the request was wrong.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"loratui {loratui.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser, title="commands")
    groups = (
        [importlib.import_module(f"loratui.cli.{_ALONE[command]}")] if command in _ALONE else _all_groups()
    )
    for group in groups:
        group.add(commands)
    return parser, dict(commands.choices)


def _all_groups() -> Sequence[Any]:
    """The modules of all commands, in the order of the help."""
    from loratui.cli import (
        caches,
        captions,
        catalog,
        configs,
        doctor,
        dryrun,
        files,
        followers,
        framing,
        history,
        hub,
        operations,
        projects,
        queue,
        reports,
        review,
        runs,
        sampling,
        serving,
        studio,
        training,
        weights,
    )

    return (
        training, projects, files, studio, framing, history, captions, review, runs, sampling, reports,
        followers, serving, queue, weights, operations, catalog, configs, dryrun, caches, hub, doctor,
    )  # fmt: skip


def run(argv: list[str]) -> int:
    """Run one command line; see `loratui.cli.main`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows escapes
    out = Output(json="--json" in argv)
    try:
        return _run(argv, out)
    except BrokenPipeError:  # `loratui runs | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        out.end_progress()
        out.note("Interrupted.")
        return EXIT_INTERRUPTED
    except SystemExit as error:  # argparse after --help and --version
        return error.code if isinstance(error.code, int) else 0
    except UsageError as error:
        out.failure(str(error), error.usage)
        return 2
    except Exception as error:  # the last stop: a person sees one line, never a traceback
        return _failed(error, out)


def _run(argv: list[str], out: Output) -> int:
    if not argv:
        return open_app(Path.cwd(), out)
    if len(argv) == 1 and not COMMAND.fullmatch(argv[0]) and Path(argv[0]).expanduser().is_dir():
        return open_app(Path(argv[0]).expanduser(), out)
    parser, commands = build_parser(argv[0])
    if not (argv[0] in commands or argv[0].startswith("-")):
        return _app(argv, commands, parser, out)
    args = parser.parse_args(argv)
    command: Command | None = getattr(args, "run", None)
    if command is None:
        return open_app(Path.cwd(), out)
    code = command(args, out)
    sys.stdout.flush()
    return code


def _app(argv: Sequence[str], commands: dict[str, Parser], parser: Parser, out: Output) -> int:
    """The app on a folder; a word that is no folder is taken for a mistyped command."""
    word = argv[0]
    folder = Path(word).expanduser()
    if not folder.is_dir():
        import difflib

        near = difflib.get_close_matches(word, commands, 1)
        hint = f"Did you mean `loratui {near[0]}`?" if near else "`loratui --help` lists the commands."
        out.failure(f"{word!r} is neither a command nor a folder.", hint)
        return 2
    if len(argv) > 1:
        raise UsageError(f"unexpected argument: {argv[1]}", " ".join(parser.format_usage().split()))
    return open_app(folder, out)


def open_app(folder: Path, out: Output, open_run: str | None = None, replay: Path | None = None) -> int:
    """The full-screen app; needs a terminal."""
    in_browser = os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")  # of `loratui serve`
    if not in_browser and not (sys.stdin.isatty() and sys.stdout.isatty()):
        out.failure(
            "The app needs a terminal.",
            "Use a command instead, such as `loratui runs`; `loratui --help` lists them.",
        )
        return 2
    from loratui.ui import run as run_app

    return run_app(folder.absolute(), open_run=open_run, replay=replay)


def _failed(error: Exception, out: Output) -> int:
    from loratui.errors import LockedError, LoratuiError, RequestError

    out.end_progress()
    if isinstance(error, LoratuiError):
        out.failure(error.message, error.advice, error.problems)
        # a run that another process holds was the wrong one to ask for
        return 2 if isinstance(error, (RequestError, LockedError)) else error.exit_code
    report = _write_report(error)
    first = next(iter(str(error).splitlines()), "")
    text = f"Unexpected {type(error).__name__}{': ' + first if first else ''}."
    out.failure(text, f"The details are in {report}; please report them." if report else "")
    return 1


def _write_report(error: Exception) -> Path | None:
    """Leave the traceback in the state folder; None when even that fails."""
    import time
    import traceback

    from loratui.paths import state_dir

    try:
        folder = state_dir() / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        lines = [f"loratui {loratui.__version__}, Python {sys.version.split()[0]}, {' '.join(sys.argv)}", ""]
        path.write_text(
            "\n".join([*lines, *traceback.format_exception(error)]),
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError:
        return None
    return path
