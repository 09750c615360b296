"""The terminal below Textual: input that cannot crash us, answers to the picture probe, a clean end.

Textual 8 ends on SIGTERM and SIGHUP without restoring the terminal, and on bytes that are not UTF-8 (mouse
reports after a tmux reattach) with a traceback. Both are mended here.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import termios
from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Any

from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from loratui.ui.graphics import PROBE, Answers, Graphics, worth_asking
from loratui.ui.messages import GraphicsKnown

# leave what Textual entered: paste, mouse, focus and resize reports, key protocol, alternate screen, cursor
RESTORE = (
    "\x1b[?2026l\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?2048l"
    "\x1b[<u\x1b[?1049l\x1b[?7h\x1b[?1004l\x1b[?25h\x1b[0m"
)


class TerminalDriver(LinuxDriver):
    """Textual's driver with a forgiving decoder and the picture probe."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._answers = Answers()
        self._asked = False
        self._graphics: Graphics | None = None

    def start_application_mode(self) -> None:
        """Enter application mode; the probe goes out once, behind the first frame's set-up."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if not self._asked and self.input_tty and worth_asking():
            self._asked = True
            self.write(PROBE)

    def run_input_thread(self) -> None:
        """Read keys until the app ends; a closed terminal counts as a hang-up."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")(errors="replace").decode
        selector = selectors.DefaultSelector()
        selector.register(self.fileno, selectors.EVENT_READ)
        try:
            while not self.exit_event.is_set():
                if selector.select(0.1):
                    data = os.read(self.fileno, 4096)
                    if not data:
                        raise EOFError
                    self._feed(parser, decode(data))
                elif held := self._answers.release():
                    for event in parser.feed(held):
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)
        except (OSError, EOFError):
            if not self.exit_event.is_set():
                os.kill(os.getpid(), signal.SIGHUP)
        finally:
            selector.close()

    def _feed(self, parser: XTermParser, data: str) -> None:
        keys = self._answers.feed(data) if self._asked else data
        if self._answers.done and (graphics := self._answers.graphics()) != self._graphics:
            self._graphics = graphics
            self.send_message(GraphicsKnown(graphics))
        if keys:
            for event in parser.feed(keys):
                self.process_message(event)

    def restore_now(self) -> None:
        """Give the terminal back without the event loop; it may be gone already."""
        with contextlib.suppress(OSError):
            os.set_blocking(sys.__stderr__.fileno(), False) if sys.__stderr__ else None
            os.write(2, RESTORE.encode())
        if self.attrs_before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.fileno, termios.TCSANOW, self.attrs_before)


def end_on_signals(save: Callable[[], None], driver: Callable[[], Any]) -> None:
    """On SIGTERM and SIGHUP: save, restore the terminal, end at once. Runs are detached and go on.

    Args:
        save: writes unsaved captions; called in the main thread, between two bytecodes.
        driver: gives the driver in use.
    """

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        try:
            save()
        finally:
            current = driver()
            if isinstance(current, TerminalDriver):
                current.restore_now()
            # threads may hang in a dead terminal or a slow disk; all their writes are atomic
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
