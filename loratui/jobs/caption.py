"""`python -m loratui.jobs.caption RUN`: describe pictures with one or several captioners."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from loratui.jobs._main import run_job

POLL_S = 0.2
MEMORY_EVERY_S = 2.0


def main(context: Any) -> None:
    """Run captioning from its run directory; goes on where an earlier attempt ended.

    Args:
        context: of the job shell: run, journal, controls, ack, stop_requested.
    """
    from loratui.caption.plan import read_plan
    from loratui.caption.results import Results
    from loratui.caption.writing import Style, Writer, written_by
    from loratui.dataset.tokens import count_tokens
    from loratui.project.history import Actor, History
    from loratui.project.project import Project

    info, plan = read_plan(context.run.path)
    project = Project.open(info.project)
    history = History(project.root, [source.path for source in project.scan_sources()])
    history.recover()
    results = Results(context.run.path, write=True)
    pictures = {p.index: p for p in plan.pictures}
    detail = {"run": info.id, "model": "+".join(c.source.name or c.options.model for c in plan.captioners)}
    count = count_tokens() if plan.settings.max_tokens else None
    progress = Progress(context.journal, results, plan.pinned)
    writer = Writer(
        results, pictures, history, Actor("captioner", plan.name, detail),
        Style(plan.settings, info.trigger, count), progress.tell,
    )  # fmt: skip
    try:
        _take_up(results, writer, pictures, written_by(history, info.id))
        rest = [p for p in plan.pictures if p.index not in results.by_index]
        context.rewind(len(pictures) - len(rest))
        if rest:
            _describe(context, plan, rest, writer, progress)
        _finish(context, results, plan, len(pictures), progress)
    finally:
        results.close()


def _take_up(results: Any, writer: Any, pictures: dict[int, Any], written: set[Path]) -> None:
    """What an earlier attempt asked a model and had no time to write, or to note down."""
    from loratui.dataset.sidecar import caption_path, read_caption

    open_ones = [r for r in results.by_index.values() if r.state == "said"]
    for result in open_ones:
        picture = pictures.get(result.index)
        if picture is not None and caption_path(picture.path) in written:
            results.close_picture(result, "written", "", read_caption(picture.path).text)
    rest = [r for r in open_ones if r.state == "said" and r.index in pictures]
    if rest:
        writer.write(rest)


def _describe(context: Any, plan: Any, rest: list[Any], writer: Any, progress: Progress) -> None:
    """Load the captioners and ask them about all pictures that are left."""
    from loratui.caption.engine import BatchSize, Engine

    captioners, sizes = {}, {}
    for number, chosen in enumerate(plan.captioners):
        context.journal.write(
            "progress", what=f"loading {chosen.row.title}", done=number, total=len(plan.captioners)
        )
        captioners[chosen.row.name] = load(chosen)
        given = chosen.options.batch_size
        first = given or captioners[chosen.row.name].first_batch
        sizes[chosen.row.name] = BatchSize(first, grows=not given)
    device = _device()
    context.set_device(device)
    memory = _Memory(context, device)

    def smaller(name: str, size: int) -> None:
        message = f"Memory ran out: {name} goes on with {size} picture{'s' * (size != 1)} at a time."
        context.journal.write("warning", code="batch-halved", message=message, advice="")

    engine = Engine(captioners, sizes, plan.settings.workers, memory.peak, smaller)
    context.set_state("running")
    progress.begin()
    requests = _Requests(context)
    writer.start()
    try:
        for results in engine.run(rest, requests.wanted):
            writer.put(results)
            memory.tell()
    finally:
        writer.finish()
    batches = ", ".join(f"{name} {size.value}" for name, size in sizes.items())
    context.journal.write("log", level="info", message=f"pictures at a time: {batches}")


def load(chosen: Any) -> Any:
    """The captioner of one row, loaded."""
    import importlib

    module = importlib.import_module(chosen.row.module)
    return module.load(chosen.options, chosen.source)


def _finish(context: Any, results: Any, plan: Any, total: int, progress: Progress) -> None:
    """Say how it ended."""
    from loratui.errors import JobError

    counts = progress.counts()
    context.journal.write("captions", **counts)
    written, left, failed = counts["written"], counts["left"], counts["failed"]
    if written + left + failed < total:
        context.set_state(
            "stopped",
            f"stopped after {written + left + failed} of {total} pictures",
            "Resume to go on from there.",
        )
        return
    if failed and not written and not left:
        first = next(r.reason for r in results.by_index.values() if r.state == "failed")
        raise JobError(f"None of {total} pictures could be described: {first}", "See the log of the run.")
    parts = [f"{written} captioned"]
    parts += [f"{n} {what}" for n, what in ((left, "left as they were"), (failed, "failed")) if n]
    parts += [f"{plan.pinned} kept as edited by hand"] if plan.pinned else []
    context.set_state("finished", ", ".join(parts))


class Progress:
    """Events for what the writer has finished."""

    def __init__(self, journal: Any, results: Any, pinned: int = 0) -> None:
        self.journal = journal
        self.results = results
        self.pinned = pinned
        self.at = time.monotonic()

    def begin(self) -> None:
        """The models are loaded: the clock of speed starts."""
        self.at = time.monotonic()
        self.journal.write("captions", **self.counts())

    def counts(self) -> dict[str, int]:
        """Pictures that have an end by now, by what became of them; and those that are kept from the run."""
        seen = self.results.counts()
        return {
            **{state: seen.get(state, 0) for state in ("written", "left", "failed")},
            "pinned": self.pinned,
        }

    def tell(self, done: list[Any]) -> None:
        """One event a picture, and one for the step."""
        journal = self.journal
        for result in done:
            journal.write(
                "captioned", index=result.index, rel=result.rel, state=result.state, text=result.text,
                reason=result.reason,
            )  # fmt: skip
            if result.state == "failed":
                named = result.reason if result.rel in result.reason else f"{result.rel}: {result.reason}"
                journal.write("warning", code="picture-failed", message=named, advice="")
        counts = self.counts()
        journal.write("captions", **counts)
        closed = sum(counts.values()) - self.pinned
        now = time.monotonic()
        each = (now - self.at) / max(1, len(done))
        self.at = now
        journal.write("step", step=closed, step_s=each, images=1)


class _Requests:
    """Pause and stop, looked at between two batches."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self._stop = False

    def wanted(self) -> bool:
        """Whether to go on; waits while the run is paused."""
        paused = self._serve(False)
        if paused:
            self.context.set_state("paused", "paused by request", "Resume to go on.")
            while paused and not self._ended():
                time.sleep(POLL_S)
                paused = self._serve(True)
            if not self._ended():
                self.context.set_state("running")
        return not self._ended()

    def _ended(self) -> bool:
        return self._stop or bool(self.context.stop_requested)

    def _serve(self, paused: bool) -> bool:
        """Answer what is asked; returns whether the run is paused now."""
        for request in self.context.controls():
            kind = request.kind
            if kind == "stop":
                self._stop = True
            elif kind == "pause" and not paused:
                paused = True
            elif kind == "resume" and paused:
                paused = False
            elif kind == "save":
                pass  # each caption is on the disk as soon as there is one
            else:
                reasons = {"pause": "The run is paused.", "resume": "The run is not paused."}
                self.context.ack(request, False, reasons.get(kind, "A caption run has no such thing."))
                continue
            self.context.ack(request, True, "")
        return paused


def _torch() -> Any:
    """Torch when a captioner has loaded it, else None."""
    import sys

    return sys.modules.get("torch")


def _device() -> str:
    torch = _torch()
    if torch is None or not torch.cuda.is_available() or not torch.cuda.memory_allocated():
        return "cpu"
    return f"cuda:{torch.cuda.current_device()}"


class _Memory:
    """Memory events, and the peak of the newest pass."""

    def __init__(self, context: Any, device: str) -> None:
        self.context = context
        self.device = device
        self._told_at = 0.0

    def peak(self) -> float | None:
        """Share of the device's memory that was in use at most since the last call; None on the CPU."""
        if not self.device.startswith("cuda"):
            return None
        cuda = _torch().cuda
        free, total = cuda.mem_get_info()
        others = total - free - cuda.memory_reserved()
        used = cuda.max_memory_allocated() + max(0, others)
        cuda.reset_peak_memory_stats()
        return float(used / total)

    def tell(self) -> None:
        """A memory event now and then."""
        import psutil

        now = time.monotonic()
        if now - self._told_at < MEMORY_EVERY_S:
            return
        self._told_at = now
        gib = float(1 << 30)
        fields: dict[str, Any] = {
            "device": self.device,
            "rss_gib": round(psutil.Process().memory_info().rss / gib, 4),
        }
        if self.device.startswith("cuda"):
            cuda = _torch().cuda
            fields["allocated_gib"] = round(cuda.memory_allocated() / gib, 4)
            fields["reserved_gib"] = round(cuda.memory_reserved() / gib, 4)
        self.context.journal.write("memory", **fields)


if __name__ == "__main__":
    run_job(main)
