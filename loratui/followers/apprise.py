"""Messages through Apprise, to whatever it knows: mail, chat, telephones.

The addresses hold passwords and tokens. They come from the environment or from a file of the user's, and no
message of ours repeats them.
"""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from loratui.errors import RequestError
from loratui.paths import config_dir
from loratui.runs.announce import news
from loratui.runs.directory import RunDir
from loratui.runs.events import Event
from loratui.runs.plain import clean
from loratui.runs.state import RunState

VARIABLE = "LORATUI_APPRISE_URLS"
FILE = "apprise.txt"
_log = logging.getLogger(__name__)


def addresses() -> list[str]:
    """The user's addresses; lines of the file that begin with # are left out."""
    given = os.environ.get(VARIABLE, "")
    if not given.strip():
        try:
            lines = (config_dir() / FILE).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        given = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    return given.split()


def open_run(run: RunDir, options: Mapping[str, Any]) -> Apprise:
    """Read the addresses.

    Raises:
        RequestError: there is none, or one that Apprise does not understand.
    """
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it names addresses when something fails
    found = addresses()
    if not found:
        raise RequestError(
            "There is no address to send to.",
            f"Set {VARIABLE}, or write one address a line into {config_dir() / FILE}.",
        )
    client = apprise.Apprise()
    for number, address in enumerate(found, 1):
        if not client.add(address):
            raise RequestError(f"Apprise does not understand address {number}.", "See its documentation.")
    return Apprise(run, client)


class Apprise:
    """Sends what is worth a bell. What happened before the follower came is not news."""

    def __init__(self, run: RunDir, client: Any, since: float | None = None) -> None:
        self.run, self._client = run, client
        self._since = time.time() if since is None else since
        self._before: RunState | None = None
        self.failed = 0
        """Messages that did not get through."""

    def take(self, event: Event, state: RunState) -> None:
        """One event."""
        if event.get("kind") in {"state", "sample"} or self._before is None:
            self._look(state, float(event.get("t") or 0.0))

    def _look(self, state: RunState, at: float) -> None:
        text = news(self._before, state)
        self._before = copy.copy(state)
        self._before.samples = list(state.samples)
        if text and at >= self._since:
            self._send(text, state)

    def _send(self, text: str, state: RunState) -> None:
        body = clean(text) + (f"\n{clean(state.advice)}" if state.advice else "")
        if not self._client.notify(title=f"loratui: {clean(state.name or self.run.id)}", body=body):
            self.failed += 1
            _log.warning("a message could not be sent")

    def flush(self) -> None:
        """Messages go at once."""

    def close(self, state: RunState) -> None:
        """A crash is written by nobody: it shows when the run is looked at."""
        if self._before is not None:
            self._look(state, time.time())
