"""`python -m loratui.jobs.describe`: answers questions about single pictures, a JSON object a line.

Started by `loratui.caption.describe`. Models stay loaded for the next question; the process ends with its
input, or after some idle minutes.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

IDLE_S = 180.0


def main() -> None:
    """Answer until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.stdout = sys.stderr
    questions: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(questions,), daemon=True).start()
    answering = _Answering(out)
    while True:
        try:
            line = questions.get(timeout=IDLE_S)
        except queue.Empty:
            return
        answering.answer(line)


def _read(questions: queue.Queue[str]) -> None:
    """Hand lines on; end the process with its input, even in the middle of an answer."""
    for line in sys.stdin:
        questions.put(line)
    os._exit(0)


class _Answering:
    """Loaded captioners, and what they are asked."""

    def __init__(self, out: Any) -> None:
        self.out = out
        self.loaded: dict[str, tuple[Any, Any]] = {}

    def tell(self, **reply: Any) -> None:
        """One line to the parent."""
        self.out.write(json.dumps(reply) + "\n")
        self.out.flush()

    def answer(self, line: str) -> None:
        """Answer one question; whatever goes wrong is an answer, too."""
        from loratui.errors import LoratuiError

        try:
            self._answer(json.loads(line))
        except LoratuiError as error:
            self.tell(error=error.message, advice=error.advice)
        except Exception as error:  # the parent shows it; the traceback stays on stderr
            import traceback

            traceback.print_exc()
            first = next(iter(str(error).strip().splitlines()), "")
            self.tell(error=f"{type(error).__name__}: {first}"[:500].rstrip(": "))

    def _answer(self, question: dict[str, Any]) -> None:
        from loratui.caption.compose import compose
        from loratui.caption.results import said_json
        from loratui.caption.settings import CaptionSettings
        from loratui.captioners.options import read_options
        from loratui.captioners.protocol import Said
        from loratui.config.colours import read_paper
        from loratui.dataset.baking import framed_picture
        from loratui.dataset.framing import read_frame
        from loratui.dataset.tokens import count_tokens

        paper = read_paper(question.get("paper"))
        image = framed_picture(Path(question["picture"]), read_frame(question.get("frame")), paper)
        said: dict[str, Said] = {}
        seconds: dict[str, float] = {}
        wanted = {c["name"] for c in question["captioners"]}
        for name in [n for n in self.loaded if n not in wanted]:
            del self.loaded[name]  # memory for those that are asked
        for one in question["captioners"]:
            captioner = self._captioner(one)
            self.tell(progress=f"asking {one['name']}")
            began = time.perf_counter()
            said[one["name"]] = captioner.caption([captioner.prepare(image)])[0]
            seconds[one["name"]] = round(time.perf_counter() - began, 3)
        values = {k: v for k, v in question["settings"].items() if k != "mode"}
        mode = question["settings"].get("mode")
        # a try shows what would be said, also where a run would leave the caption alone
        settings, _ = read_options(
            CaptionSettings, values | {"mode": "replace" if mode == "missing" else mode}
        )
        count = count_tokens() if settings.max_tokens else None
        made = compose(said, settings, question["trigger"], question["before"], count)
        self.tell(
            said={name: said_json(answer) for name, answer in said.items()},
            seconds=seconds,
            text=made.text,
            dropped=list(made.dropped),
        )

    def _captioner(self, one: dict[str, Any]) -> Any:
        """The captioner with these options, loaded unless it is."""
        from loratui.caption.plan import Chosen
        from loratui.captioners.options import read_options
        from loratui.captioners.protocol import Source
        from loratui.captioners.spec import captioner_spec
        from loratui.jobs.caption import load

        row = captioner_spec(one["name"])
        assert row is not None
        options, _ = read_options(row.options, one["options"])
        folder, weights = (Path(one[key]) if one[key] else None for key in ("folder", "weights"))
        chosen = Chosen(row, options, Source(folder, weights, one["source"]))
        kept = self.loaded.pop(row.name, None)
        if kept is None or kept[0] != chosen:
            kept = None  # free the old one before the new one is loaded
            self.tell(progress=f"loading {row.title}")
            kept = (chosen, load(chosen))
        self.loaded[row.name] = kept
        return kept[1]


if __name__ == "__main__":
    main()
