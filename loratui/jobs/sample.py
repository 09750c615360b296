"""`python -m loratui.jobs.sample RUN`: draw what `project.drawing` has frozen in the run directory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratui.jobs._main import run_job


@dataclass(frozen=True, slots=True)
class Round:
    """Every prompt with one set of LoRAs.

    Attributes:
        number: of the round, which names its folder.
        step: of the checkpoint; 0 for the base.
        label: what it is drawn with, empty where the step says it.
        own: the checkpoint's file, with its strength; None for strength 0.
        loras: what goes into the base.
    """

    number: int
    step: int
    label: str
    own: Path | None
    loras: list[tuple[Path, float]] = field(default_factory=list)


def rounds(folder: Path, drawing: dict[str, Any]) -> list[Round]:
    """The rounds of a drawing, in order: strength 0 once, then checkpoint by checkpoint."""
    beside = [(Path(b["path"]), float(b["strength"])) for b in drawing["beside"]]
    found: list[Round] = []
    strengths = [float(s) for s in drawing["strengths"]]
    checkpoints = [(int(c["step"]), folder / c["path"]) for c in drawing["checkpoints"]]
    if 0.0 in strengths:
        found.append(Round(0, 0, "base" if not beside else "without", None, beside))
    for step, path in checkpoints:
        for strength in strengths:
            if strength:
                alone = {s for s in strengths if s} == {1.0} and len(checkpoints) > 1
                name = f"{step:,} " if len(checkpoints) > 1 else ""
                label = "" if alone else f"{name}× {strength:g}"
                own = [(path, strength)]
                found.append(Round(len(found), step, label, path, [*own, *beside]))
    return found


def main(context: Any) -> None:
    """Draw the rounds; goes on where an earlier attempt ended.

    Args:
        context: of the job shell: run, journal, controls, ack, stop_requested.

    Raises:
        JobError: not one picture could be drawn.
    """
    from loratui.config.load import load_run
    from loratui.errors import JobError
    from loratui.project.drawing import read
    from loratui.train.assemble import load_base
    from loratui.train.device import place
    from loratui.train.preview import draw_round, requests_of

    journal, run = context.journal, context.run
    info, config = load_run(run.config_path)
    drawing = read(run)
    planned = rounds(run.path, drawing)
    placement = place(config.memory)
    context.set_device(str(placement.device))
    journal.write("progress", what="loading base", done=0, total=1)
    family, parts = load_base(info, config, placement)
    parts.denoiser.to(placement.device)
    for encoder in parts.text_encoders.values():
        encoder.to(placement.device)
    journal.write("progress", what="loading base", done=1, total=1)

    studio = _Studio(family, parts, placement, info, drawing)
    requests = requests_of(
        config.samples, config.samples.prompts, config.data.resolution, parts.latent_factor
    )
    there = {s.path for s in context.state.samples if (run.path / s.path).is_file()}
    total, done = len(planned) * len(requests), 0
    if there:
        context.rewind(len(there))
    context.set_state("running")
    for each in planned:
        folder = run.samples_dir / f"round-{each.number:03d}"
        wanted = [i for i in range(len(requests)) if _path(run, folder, i) not in there]
        done += len(requests) - len(wanted)
        if wanted:
            studio.put(each)
        for index in wanted:
            if _asked_to_stop(context):
                return
            begun = time.perf_counter()
            draw_round(studio.preview, [requests[index]], folder, each.step, context, index, each.label)
            done += 1
            journal.write("step", step=done, step_s=time.perf_counter() - begun, images=1, of=total)
    drawn = [s for s in context.state.samples if (run.path / s.path).is_file()]
    if not drawn and not context.stop_requested:
        raise JobError("No picture could be drawn.", "The warnings of the run say why.")


def _path(run: Any, folder: Path, index: int) -> str:
    relative: str = (folder / f"{index:02d}.png").relative_to(run.path).as_posix()
    return relative


def _asked_to_stop(context: Any) -> bool:
    """Answer requests: stop is the one there is."""
    for request in context.controls():
        if request.kind == "stop":
            context.stop_requested = context.stop_requested or "stopped by request"
            context.ack(request)
        else:
            context.ack(request, False, "A run that draws samples can only be stopped.")
    return bool(context.stop_requested)


class _Studio:
    """The base with whatever LoRAs and words a round wants, and the preview that draws with it."""

    def __init__(self, family: Any, parts: Any, placement: Any, info: Any, drawing: dict[str, Any]) -> None:
        from loratui.train.embeddings import Embeddings
        from loratui.train.patched import Patched
        from loratui.train.preview import Preview

        self._patched, self._words, self._info = Patched(family, parts), Embeddings(parts), info
        for path in drawing["embeddings"]:
            self._words.add_file(Path(path), info.family)
        self.preview = Preview(family, parts, self, None, placement)  # type: ignore[arg-type]

    # what `Preview` asks of an adapter

    trains_text = True  # nothing may come from the cache: encoders and words are not those of the training

    def train(self, mode: bool) -> None:
        """There is nothing that drops out."""

    def spell(self, text: str) -> str:
        """A prompt with the embeddings' words in it."""
        return self._words.spell(text)

    def put(self, each: Round) -> None:
        """The LoRAs of a round into the base, and the words that the checkpoint brings along."""
        from loratui.weights.header import read_header

        files = []
        for path, strength in each.loras:
            names = list(read_header(path).tensors)
            if path == each.own and any(name.startswith("bundle_emb.") for name in names):
                self._words.add_bundled(path, self._info.trigger)
            if any(not name.startswith("bundle_emb.") for name in names):
                files.append((path, strength))
        if each.own is None:
            self._words.forget(self._info.trigger)
        self._patched.put(files)


if __name__ == "__main__":
    run_job(main)
