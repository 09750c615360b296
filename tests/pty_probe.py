"""Drive a full-screen program in a real pty: what it writes, byte for byte, and how fast.

The terminal answers queries (device attributes, cell size, kitty pictures) per kind of terminal,
at once or after the round trip of a slow link.

    with PtyProgram([sys.executable, "-m", "loratui", "project"], cols=120, rows=40, term="kitty") as p:
        p.wait_text("pictures")         # seconds since spawn
        first, last, count = p.key("down")
        p.screen()                      # list of lines, through pyte
        p.raw                           # everything written
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path

KEYS = {
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "right": b"\x1b[C",
    "left": b"\x1b[D",
    "pageup": b"\x1b[5~",
    "pagedown": b"\x1b[6~",
    "home": b"\x1b[H",
    "end": b"\x1b[F",
    "ctrl+end": b"\x1b[1;5F",
    "ctrl+home": b"\x1b[1;5H",
    "enter": b"\r",
    "tab": b"\t",
    "shift+tab": b"\x1b[Z",
    "escape": b"\x1b",
    "space": b" ",
    "backspace": b"\x7f",
    "f1": b"\x1bOP",
    **{f"ctrl+{chr(c)}": bytes([c - 96]) for c in range(97, 123)},
}

# query (regex on the program's output) -> answer.  {h} {w} cell size, {rows} {cols}.
_DA1 = rb"\x1b\[c|\x1b\[0c"
_TGP = (
    rb"\x1b_G[^;\x1b]*?i=(\d+)[^\x1b]*?a=q[^\x1b]*\x1b\\"
    rb"|\x1b_G[^;\x1b]*?a=q[^;\x1b]*?i=(\d+)[^\x1b]*\x1b\\"
)
TERMS = {
    "none": [],  # answers nothing (worst case: every probe times out)
    "xterm": [
        (_DA1, b"\x1b[?64;1;2;22c"),
        (rb"\x1b\[\?2026\$p", b"\x1b[?2026;2$y"),
        (rb"\x1b\[16t", b"\x1b[6;{h};{w}t"),
        (rb"\x1b\[14t", b"\x1b[4;{ph};{pw}t"),
    ],
    "sixel": [
        (_DA1, b"\x1b[?64;1;2;4;22c"),
        (rb"\x1b\[\?2026\$p", b"\x1b[?2026;2$y"),
        (rb"\x1b\[16t", b"\x1b[6;{h};{w}t"),
    ],
    "kitty": [
        (_DA1, b"\x1b[?62;c"),
        (rb"\x1b\[\?2026\$p", b"\x1b[?2026;2$y"),
        (rb"\x1b\[16t", b"\x1b[6;{h};{w}t"),
        (
            _TGP,
            b"\x1b_Gi=%ID%;OK\x1b\\",
        ),
    ],
}
TERMS["tmux"] = [(_DA1, b"\x1b[?1;2;4c")]  # tmux 3.4+ built with sixel; 3.3a answers ?1;2c


def images_seen(raw: bytes) -> dict:
    """Count image payloads in what a program wrote to the terminal."""
    raw = bytes(raw)
    tgp = list(re.finditer(rb"\x1b_G([^;\x1b]*)", raw))
    new = sum(
        1
        for m in tgp
        if b"a=q" not in m[1]
        and b"a=d" not in m[1]
        and (b"s=" in m[1] or b"f=" in m[1] or b"a=T" in m[1] or b"a=t" in m[1])
    )
    return {
        "tgp": new,
        "tgp_messages": len(tgp),
        "tgp_placeholder_cells": raw.count("\U0010eeee".encode()),
        "sixel": len(re.findall(rb"\x1bP[0-9;]*q", raw)),
        "iterm": raw.count(b"\x1b]1337;File="),
        "halfblock": raw.count("\u2580".encode()) + raw.count("\u2584".encode()),
        "tmux_passthrough": raw.count(b"\x1bPtmux;"),
        "bytes": len(raw),
    }


def tgp_images(raw: bytes) -> list:
    """The pictures sent with the kitty protocol as PNG: [(id, png bytes)], chunks joined."""
    import base64

    out, cur, ident = [], b"", None
    for m in re.finditer(rb"\x1b_G([^;\x1b]*);([^\x1b]*)\x1b\\", bytes(raw)):
        keys = dict(k.split(b"=", 1) for k in m[1].split(b",") if b"=" in k)
        if keys.get(b"a") in (b"q", b"d", b"p"):
            continue
        ident = keys.get(b"i", ident)
        cur += m[2]
        if keys.get(b"m", b"0") == b"0":
            out.append((int(ident or 0), base64.b64decode(cur)))
            cur = b""
    return out


def sixel_sizes(raw: bytes) -> list:
    """(width, height) in pixels of every sixel picture (from its raster attributes)."""
    return [(int(m[1]), int(m[2])) for m in re.finditer(rb"\x1bP[0-9;]*q\"1;1;(\d+);(\d+)", bytes(raw))]


def halfblock_rows(screen) -> list:
    """From PtyProgram.pyte_screen(): rows of (x, y, '#fg', '#bg') for every upper-half-block cell."""
    return [
        (x, y, c.fg, c.bg) for y, row in screen.buffer.items() for x, c in row.items() if c.data == "\u2580"
    ]


def whole(data: bytes) -> int:
    """How many of these bytes end before an escape sequence whose end was not read yet."""
    for opening in (b"\x1b_G", b"\x1bP"):
        last = data.rfind(opening)
        if last >= 0 and data.find(b"\x1b\\", last) < 0:
            return last
    last = data.rfind(b"\x1b")
    if last < 0:
        return len(data)
    ends = re.match(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07|[^\[\]])", data[last:])
    return len(data) if ends else last


class PtyProgram:
    def __init__(
        self,
        argv,
        cols=160,
        rows=48,
        cell=(10, 20),
        term="xterm",
        env=None,
        cwd=None,
        quiet=0.08,
        cap=5.0,
        nopaint=3.0,
        rtt=0.0,
    ):
        self.cols, self.rows, self.cell, self.quiet, self.cap = cols, rows, cell, quiet, cap
        self.rtt, self._late = rtt, []  # answers to queries are held back `rtt` seconds (slow ssh)
        self.nopaint = nopaint  # a key that paints nothing is given up after this
        self.answers = [(re.compile(p, re.S), a) for p, a in TERMS[term]]
        self.raw, self._answered, self._done, self._told = bytearray(), 0, {}, 0
        self._pyte, self._fed = None, 0
        full = dict(os.environ, TERM="xterm-256color", COLORTERM="truecolor", LC_ALL="C.UTF-8")
        for k in ("TMUX", "TERM_PROGRAM", "NO_COLOR", "TEXTUAL_DRIVER", "COLUMNS", "LINES"):
            full.pop(k, None)
        full.update(env or {})
        self.t0 = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            if cwd:
                os.chdir(cwd)
            # the size must be there before the program reads it
            fcntl.ioctl(
                0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, cols * cell[0], rows * cell[1])
            )
            os.execvpe(argv[0], argv, full)
        fcntl.ioctl(
            self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, cols * cell[0], rows * cell[1])
        )

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.close()

    # -- io ---------------------------------------------------------------
    def pump(self, timeout):
        """Read once, at most `timeout` s: number of bytes, 0 on silence, -1 when the program ended."""
        end = time.perf_counter() + timeout
        while True:
            left = max(0.0, end - time.perf_counter())
            if self._late:
                left = min(left, max(0.0, self._late[0][0] - time.perf_counter()))
            r, _, _ = select.select([self.fd], [], [], left)
            self._flush_late()
            if r or time.perf_counter() >= end:
                break
        if not r:
            return 0
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            return -1
        if not data:
            return -1
        self.raw += data
        self._answer()
        return len(data)

    def _answer(self):
        # look only at what is new (plus a tail, a query may be split over two reads)
        start = max(0, self._answered - 256)
        window = bytes(self.raw[start:])
        for rx, ans in self.answers:
            for m in rx.finditer(window):
                if start + m.end() <= self._done.get(rx, 0):
                    continue
                self._done[rx] = start + m.end()
                ids = [g for g in m.groups() if g]
                out = ans.replace(b"{h}", b"%d" % self.cell[1]).replace(b"{w}", b"%d" % self.cell[0])
                out = out.replace(b"{ph}", b"%d" % (self.cell[1] * self.rows)).replace(
                    b"{pw}", b"%d" % (self.cell[0] * self.cols)
                )
                self._late.append(
                    (time.perf_counter() + self.rtt, out.replace(b"%ID%", ids[0] if ids else b"1"))
                )
        self._flush_late()
        self._answered = len(self.raw)

    def _flush_late(self):
        while self._late and self._late[0][0] <= time.perf_counter():
            os.write(self.fd, self._late.pop(0)[1])

    def send(self, data: bytes):
        os.write(self.fd, data)

    def press(self, key, pause=0.12):
        """Send one key and read what comes within `pause` s: for programs that never go quiet."""
        self.send(KEYS.get(key, key.encode()))
        self.listen(pause)

    def listen(self, seconds):
        """Read for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0 and self.pump(left) >= 0:
            pass

    # -- timing -----------------------------------------------------------
    def wait_bytes(self, needle: bytes, timeout=30.0):
        """Seconds since spawn until `needle` was written by the program (None = never)."""
        end, pos = time.perf_counter() + timeout, 0
        while True:
            i = self.raw.find(needle, max(0, pos - len(needle)))
            if i >= 0:
                return time.perf_counter() - self.t0
            pos = len(self.raw)
            if time.perf_counter() > end or self.pump(0.05) < 0:
                return None

    def wait_text(self, text, timeout=30.0):
        """`wait_bytes` for text."""
        return self.wait_bytes(text.encode(), timeout)

    def settle(self, quiet=None, cap=None):
        """Read until `quiet` s of silence. Returns the time of the last byte (perf_counter) or None."""
        quiet, cap = quiet or self.quiet, cap or self.cap
        last, end = None, time.perf_counter() + cap
        while time.perf_counter() < end:
            n = self.pump(quiet)
            if n <= 0:
                break
            last = time.perf_counter()
        return last

    def key(self, key, quiet=None):
        """Send one key: s to first byte, s to last byte, bytes; (None, None, 0) if nothing was painted."""
        while self.pump(0) > 0:
            pass
        n0, t = len(self.raw), time.perf_counter()
        self.send(KEYS.get(key, key.encode()))
        if self.pump(min(self.cap, self.nopaint)) <= 0:
            return None, None, 0
        first = time.perf_counter()
        last = self.settle(quiet) or first
        return first - t, last - t, len(self.raw) - n0

    def resize(self, cols, rows):
        self.cols, self.rows = cols, rows
        fcntl.ioctl(
            self.fd,
            termios.TIOCSWINSZ,
            struct.pack("HHHH", rows, cols, cols * self.cell[0], rows * self.cell[1]),
        )
        os.kill(self.pid, signal.SIGWINCH)

    def written(self):
        """The text written since the last call, without the sequences that style and place it."""
        start, self._told = self._told, len(self.raw)
        text = bytes(self.raw[start:]).decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1b\][^\x07]*\x07", "", text)

    def wait_written(self, mark, timeout=20.0):
        """Whether `mark` is written within `timeout` s, after what `written` told last."""
        start, end, text = self._told, time.perf_counter() + timeout, ""
        while mark not in text and time.perf_counter() < end and self.pump(0.05) >= 0:
            self._told = start
            text = self.written()
        return mark in text

    # -- looking ----------------------------------------------------------
    def screen(self):
        return [line.rstrip() for line in self.pyte_screen().display]

    def pyte_screen(self):
        """The screen as it stands: what was read since the last call is fed to the one pyte screen."""
        import pyte

        if self._pyte is None:
            screen = pyte.Screen(self.cols, self.rows)
            self._pyte = (screen, pyte.Stream(screen), codecs.getincrementaldecoder("utf-8")("replace"))
        screen, stream, decoder = self._pyte
        if (screen.columns, screen.lines) != (self.cols, self.rows):
            screen.resize(self.rows, self.cols)
        part = bytes(self.raw[self._fed : self._fed + whole(bytes(self.raw[self._fed :]))])
        self._fed += len(part)
        text = decoder.decode(part)
        text = re.sub(r"\x1b_G.*?\x1b\\", "", text, flags=re.S)  # pyte knows neither APC ...
        text = re.sub(r"\x1bP.*?\x1b\\", "", text, flags=re.S)  # ... nor DCS (sixel)
        text = re.sub(r"\x1b\[[<>=?][0-9;]*[a-zA-Z]", lambda m: m[0] if m[0][-1] in "hl" else "", text)
        stream.feed(text)
        return screen

    def rss(self):
        """MiB of the program and all its descendants."""
        total, todo = 0, [self.pid]
        while todo:
            p = todo.pop()
            try:
                with open(f"/proc/{p}/status") as f:
                    total += next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))
                for task in Path(f"/proc/{p}/task").iterdir():  # a thread's children are its own
                    with open(task / "children") as f:
                        todo += [int(x) for x in f.read().split()]
            except (OSError, StopIteration):
                pass
        return total / 1024

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as f:
            v = f.read().rsplit(")", 1)[1].split()
        return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        try:
            os.kill(self.pid, signal.SIGTERM)
            for _ in range(40):
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    break
                self.pump(0.025)
            else:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        try:
            os.close(self.fd)
        except OSError:
            pass
