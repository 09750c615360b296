"""Trying captioners on one picture: a child process that keeps its models loaded between two questions.

The other end is `loratui.jobs.describe`: a JSON object a line in, progress and one answer a line out. It ends
when its input ends, when it is killed, or by itself after some idle minutes, so no model holds memory for
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.caption.choosing import interpreter
from loratui.caption.plan import Chosen
from loratui.caption.results import said_of
from loratui.caption.settings import CaptionSettings
from loratui.captioners.options import option_values
from loratui.captioners.protocol import Said
from loratui.config.colours import WHITE, Paper
from loratui.dataset.framing import PLAIN, Frame
from loratui.errors import JobError
from loratui.paths import PACKAGE


@dataclass(frozen=True, slots=True)
class Question:
    """What to try.

    Attributes:
        picture: the picture.
        settings: how answers become a caption.
        captioners: who is asked.
        trigger: of the project.
        before: the caption that is there.
        frame: how it is turned, mirrored and cropped.
        paper: shows through its transparent pixels.
    """

    picture: Path
    settings: CaptionSettings
    captioners: tuple[Chosen, ...]
    trigger: str = ""
    before: str = ""
    frame: Frame = PLAIN
    paper: Paper = WHITE

    def as_json(self) -> dict[str, Any]:
        """The question as the child reads it."""
        return {
            "picture": str(self.picture),
            "settings": option_values(self.settings),
            "trigger": self.trigger,
            "before": self.before,
            "frame": self.frame.as_json(),
            "paper": list(self.paper),
            "captioners": [
                {
                    "name": c.row.name,
                    "options": option_values(c.options),
                    "folder": str(c.source.folder or ""),
                    "weights": str(c.source.weights or ""),
                    "source": c.source.name,
                }
                for c in self.captioners
            ],
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it.

    Attributes:
        said: captioner -> what it said; one that failed has `error`.
        seconds: captioner -> how long it took, without loading.
        text: the caption that would be written.
        dropped: tags left out so that it fits.
    """

    said: dict[str, Said] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    text: str = ""
    dropped: tuple[str, ...] = ()


class Describer:
    """Asks a child process; one question at a time, from any thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._python = ""
        self._errors: Any = None
        self._asking = threading.Lock()
        self._stopped = False

    def ask(self, question: Question, on_progress: Callable[[str], None] = lambda what: None) -> Answer:
        """Try captioners on a picture; the first question waits for their loading.

        Args:
            question: what to try.
            on_progress: told what the child does, such as `loading BLIP`.

        Raises:
            JobError: it could not be done, or `stop` was called.
            MissingPackageError: no interpreter with what the captioners need.
        """
        python = interpreter([c.row for c in question.captioners])
        with self._asking:
            self._stopped = False
            for again in (True, False):
                process = self._running(python)
                try:
                    assert process.stdin is not None
                    process.stdin.write(json.dumps(question.as_json()) + "\n")
                    process.stdin.flush()
                    return self._answer(process, on_progress)
                except (BrokenPipeError, _Gone):
                    process.wait()
                    if process.returncode or self._stopped or not again:
                        raise JobError(*self._why(process.returncode)) from None
            raise AssertionError

    def stop(self) -> None:
        """End the child, whatever it does; a question that waits gets a JobError."""
        self._stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def close(self) -> None:
        """End the child and forget it."""
        self.stop()
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()
            process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _running(self, python: str) -> subprocess.Popen[str]:
        """The child, started when it is not there."""
        old = self._process
        if old is not None and old.poll() is None and self._python == python:
            return old
        self.close()
        self._stopped = False
        env = dict(os.environ) | {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
        env.setdefault("TOKENIZERS_PARALLELISM", "false")
        env.setdefault("HF_HUB_OFFLINE", "1")
        source = PACKAGE.parent
        if source.name not in {"site-packages", "dist-packages"}:  # a checkout: the child runs the same code
            env["PYTHONPATH"] = os.pathsep.join(p for p in (str(source), env.get("PYTHONPATH", "")) if p)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the child
        self._process = subprocess.Popen(
            [python, "-m", "loratui.jobs.describe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=env,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._python = python
        return self._process

    def _answer(self, process: subprocess.Popen[str], on_progress: Callable[[str], None]) -> Answer:
        assert process.stdout is not None
        for line in process.stdout:
            reply = json.loads(line)
            if "progress" in reply:
                on_progress(str(reply["progress"]))
            elif "error" in reply:
                raise JobError(str(reply["error"]), str(reply.get("advice") or ""))
            else:
                said = {name: said_of(answer) for name, answer in reply["said"].items()}
                return Answer(said, dict(reply["seconds"]), str(reply["text"]), tuple(reply["dropped"]))
        raise _Gone

    def _why(self, code: int | None) -> tuple[str, str]:
        if self._stopped:
            return "The try was stopped.", ""
        last = ""
        if self._errors is not None:
            with contextlib.suppress(OSError, ValueError):
                self._errors.seek(0)
                lines = self._errors.read()[-4000:].decode("utf-8", "replace").strip().splitlines()
                last = lines[-1] if lines else ""
        if code == -9:
            return (
                "The process that tried the captioner was killed, most likely for memory.",
                "Choose a smaller model.",
            )
        return f"The process that tried the captioner ended{f': {last}' if last else ''}.", "Try again."


class _Gone(Exception):
    """The child closed its output without an answer."""
