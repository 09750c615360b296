"""`python -m loratui.jobs.dryrun RUN`: some steps, one save and one sample of a training, measured.

Started by `loratui.project.dryrun` on a run directory made for it, which has the pictures of the largest
bucket. It is the training itself, `assemble` and `train`, under a meter; what it finds goes to stdout, a JSON
object a line, and nothing is written to the run's journal.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from loratui.runs.directory import RunDir

GIB = float(1 << 30)
MEASURED_STEPS = 2
"""Steps whose memory counts: the second one has the optimizer's state beside the activations."""


class Meter:
    """Peak memory by phase: allocated on CUDA, else resident above what was there before.

    glibc keeps freed blocks for the next ones, so that the resident size of a training on the CPU says up to
    twice what is needed. While memory is measured, `mallopt` (see its manual page) has blocks from 128 KiB
    on mapped and unmapped one by one, and the resident size is what is held. That is slower: speed is
    measured after all that is measured of memory, with the usual setting (a heap that grew once is used
    again, and counts, whatever `mallopt` says later), and the seconds of the sample are those of the slower
    one.
    """

    def __init__(self, device: Any) -> None:
        self.cuda = device.type == "cuda"
        self._device = device
        self.peaks: dict[str, float] = {}
        self._phase = ""
        gc.collect()
        self.tight(True)
        self._floor = 0 if self.cuda else _resident()
        self.enter("load")

    def enter(self, phase: str) -> None:
        """Close the phase that runs and begin another."""
        if self._phase:
            self.peaks[self._phase] = max(self.peaks.get(self._phase, 0.0), self._peak())
        self._phase = phase
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _reset_peak()

    def tight(self, on: bool) -> None:
        """Have memory that is freed leave the process at once, or not."""
        if not self.cuda:
            _mallopt(_MMAP_THRESHOLD, 128 * 1024 if on else 32 * 1024 * 1024)
            _mallopt(_TRIM_THRESHOLD, 128 * 1024 if on else 512 * 1024 * 1024)
            if on:
                gc.collect()
                _trim()

    def _peak(self) -> float:
        if self.cuda:
            import torch

            return float(torch.cuda.max_memory_allocated(self._device)) / GIB
        return (_highest() - self._floor) / GIB


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h


def _mallopt(what: int, value: int) -> None:
    """Set an option of glibc's malloc; elsewhere there is none."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(what, value)


def _trim() -> None:
    """Give what malloc keeps back to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def _highest() -> int:
    """The most that was resident since the last reset."""
    try:
        return _status("VmHWM") or _resident()
    except OSError:
        return _resident()


def _reset_peak() -> None:
    """Linux: 5 resets VmHWM (proc(5)). Elsewhere a phase shows the highest of all before it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


class Journal:
    """Stands in for a run's journal: keeps events, tells of progress, and turns the meter's phases."""

    def __init__(self, tell: Any) -> None:
        self.meter: Meter | None = None
        self.training: Any = None
        self.events: list[dict[str, Any]] = []
        self._tell = tell

    def write(self, kind: str, **values: Any) -> None:
        """An event of the training."""
        self.events.append({"kind": kind, **values})
        if kind == "progress":
            self._tell(progress=values.get("what", ""), done=values.get("done"), total=values.get("total"))
        elif kind == "step":
            self._tell(progress="training", done=values["step"], total=None)
        if self.meter is None:
            return
        if kind == "step" and values["step"] == MEASURED_STEPS:
            if self.training is not None and self.training.sample_due():
                self.meter.enter("sample")
            else:
                self._speed(self.meter)
        elif kind in {"sample", "sample_failed"} and self.training is not None:
            self.training.sample_every = 0  # the one sample is drawn
            self._speed(self.meter)
        if kind == "state" and values.get("state") == "caching":
            self.meter.enter("cache")
        elif kind == "state" and values.get("state") == "running":
            self.meter.enter("train")

    @staticmethod
    def _speed(meter: Meter) -> None:
        """From here on it is as fast as a run."""
        meter.enter("speed")
        meter.tight(False)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event for event in self.events if event["kind"] == kind]


class Context:
    """What the training asks of its job: no control requests, no stop."""

    def __init__(self, run: RunDir, journal: Journal) -> None:
        self.run, self.journal = run, journal
        self.stop_requested = ""
        self.device = ""
        self.from_step = 0
        self.attempt = 1
        self.leads = True
        self.ranks: Any = None

    def set_device(self, device: str) -> None:
        """Remember what it runs on."""
        self.device = device

    def controls(self) -> list[Any]:
        """None."""
        return []

    def ack(self, *arguments: Any) -> None:
        """Nothing was asked."""

    def rewind(self, step: int) -> None:
        """There is no attempt to set back."""


def measure(run: RunDir, tell: Any) -> dict[str, Any]:
    """Train the run's few steps and draw its sample.

    Args:
        run: a run directory with run.toml and manifest.jsonl.
        tell: called with progress, as keyword arguments.

    Returns:
        The fields of the answer: peaks in GiB by phase, seconds, device and its memory.
    """
    import torch

    from loratui.config.load import load_run
    from loratui.train.assemble import assemble
    from loratui.train.device import place
    from loratui.train.loop import train

    _, config = load_run(run.config_path)
    journal = Journal(tell)
    context = Context(run, journal)
    placement = place(config.memory)
    _warm(placement.device)
    journal.meter = Meter(placement.device)
    training = journal.training = assemble(context)
    training.sample_every = MEASURED_STEPS if training.sample_every else 0
    # the sample at step 0 would only be measured twice
    (run.samples_dir / "step-000000").mkdir(parents=True, exist_ok=True)
    trained = train(training)
    assert trained
    journal.meter.enter("")
    steps = [event["step_s"] for event in journal.of("step")]
    failed = journal.of("sample_failed")
    samples = [event["seconds"] for event in journal.of("sample")]
    cuda = placement.device.type == "cuda"
    total = torch.cuda.get_device_properties(placement.device).total_memory / GIB if cuda else 0.0
    peaks = journal.meter.peaks
    resident = peaks.pop("speed", 0.0)
    return {
        "device": torch.cuda.get_device_name(placement.device) if cuda else "cpu",
        "device_gib": total,
        "phases": {name: round(peak, 4) for name, peak in peaks.items()},
        "peak_gib": max(peaks.values()),
        "held_gib": torch.cuda.max_memory_reserved(placement.device) / GIB if cuda else resident,
        "step_s": statistics.median(steps[MEASURED_STEPS + 1 :] or steps),
        "sample_s": statistics.median(samples) if samples else 0.0,
        "save_s": statistics.median(event["seconds"] for event in journal.of("checkpoint")),
        "lora_bytes": journal.of("checkpoint")[-1]["bytes"],
        "sample_error": failed[0]["error"] if failed else "",
        "losses": [event["loss"] for event in journal.of("step")],
    }


def _warm(device: Any) -> None:
    """What imports and the first product take is not the training's."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from peft import LoraConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    assert AutoencoderKL and UNet2DConditionModel and LoraConfig and CLIPTextModel
    square = torch.ones(64, 64, device=device, requires_grad=True)
    (square @ square).sum().backward()


def main() -> None:
    """Measure, and say what came of it on stdout."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.stdout = sys.stderr

    def tell(**fields: Any) -> None:
        out.write(json.dumps(fields) + "\n")
        out.flush()

    from loratui.errors import LoratuiError

    try:
        tell(answer=measure(RunDir(sys.argv[1]), tell))
    except LoratuiError as error:
        tell(error=error.message, advice=error.advice, code=_code(error))
    except BaseException as error:
        import traceback

        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        tell(error=f"{type(error).__name__}: {first}"[:500].rstrip(": "), advice="", code=_code(error))
        sys.exit(1)


def _code(error: BaseException) -> str:
    """`out-of-memory` where the device or the host had no more."""
    import torch

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (torch.OutOfMemoryError, MemoryError)):
            return "out-of-memory"
        seen = seen.__cause__
    return "failed"


if __name__ == "__main__":
    main()
