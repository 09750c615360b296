"""What people ask of a running job: answered between two steps, each with an acknowledgement."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from loratui.errors import SaveError
from loratui.families.emphasis import with_trigger
from loratui.runs.control import adjust_problem

if TYPE_CHECKING:
    from loratui.train.loop import Training

POLL_S = 0.2
"""How often a paused run looks for requests."""


class Requests:
    """Reads control requests and does what they ask.

    Attributes:
        io_s: seconds spent writing and reading since the last step, for the step's account of time.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.io_s = 0.0
        self._stop = False
        self._signal = False
        self._last_epoch: int | None = None

    def stop_wanted(self) -> bool:
        """Serve what has been asked; returns whether the run should save and end.

        A stop among the requests wins over a pause beside it; what else was asked for is done first.
        """
        context = self.training.context
        requests = self._asked()
        ends = any(r.kind == "stop" and r.args.get("after") != "epoch" for r in requests)
        for request in requests:
            if ends and request.kind == "pause":
                context.ack(request, False, "The run is asked to stop.")
            else:
                self._serve(request)
        ended = self._last_epoch is not None and self.training.epochs_begun() > self._last_epoch
        return self._stop or ended or self._signal

    def _asked(self) -> list[Any]:
        """New requests, and whether a signal came: the same in all processes, so that all act at one step."""
        requests, self._signal = self.training.ranks.asked(self.training.context)
        return requests

    def _serve(self, request: Any) -> None:
        t, context = self.training, self.training.context
        if request.kind == "stop" and request.args.get("after") == "epoch":
            self._last_epoch = max(1, t.epochs_begun(t.step - 1))
            t.journal.write("log", level="info", message=f"stops after epoch {self._last_epoch}")
            context.ack(request, True, "")
        elif request.kind == "stop":
            context.ack(request, True, "")
            self._stop = True
        elif request.kind == "save":
            try:
                t.save()
            except SaveError as error:
                context.ack(request, False, error.message)
            else:
                context.ack(request, True, "")
        elif request.kind == "sample":
            self._sample(request)
        elif request.kind == "adjust":
            self._adjust(request)
        elif request.kind == "prompts":
            self._change_prompts(request)
        elif request.kind == "pause":
            context.ack(request, True, "")
            self._stop = (
                not self.wait_paused(reason="paused by request", advice="Resume to go on.") or self._stop
            )
        elif request.kind == "resume":
            context.ack(request, False, "The run is not paused.")
        else:
            context.ack(request, False, f"Unknown request {request.kind}.")

    def _sample(self, request: Any) -> None:
        """Draw the prompts of the run, or those that came with the request, beside them."""
        t = self.training
        prompts = request.args.get("prompts")
        if prompts is None and not t.prompts:
            t.context.ack(request, False, "The run has no sample prompts.")
        elif prompts is not None and not _are_texts(prompts):
            t.context.ack(request, False, "prompts must be a list of texts.")
        else:
            t.context.ack(request, True, "")
            t.sample(self._spoken(prompts) if prompts else None)

    def _adjust(self, request: Any) -> None:
        """Change the intervals of saves and samples, and the factor of the learning rate, from here on."""
        t, args = self.training, request.args
        problem = adjust_problem(args)
        if not problem and args.get("sample_every") and not t.prompts:
            problem = "The run has no sample prompts."
        if problem:
            t.context.ack(request, False, problem)
            return
        t.save_every = args.get("save_every", t.save_every)
        t.sample_every = args.get("sample_every", t.sample_every)
        t.lr_scale = float(args.get("lr_factor", t.lr_scale))
        said = ", ".join(f"{key} {value:g}" for key, value in sorted(args.items()))
        t.journal.write("log", level="info", message=f"changed from step {t.step} on: {said}")
        t.context.ack(request, True, "")

    def _spoken(self, prompts: Sequence[str]) -> list[str]:
        """Prompts with the trigger written out."""
        t = self.training
        return [with_trigger(p, t.info.trigger, t.config.samples.weights) for p in prompts]

    def _change_prompts(self, request: Any) -> None:
        t = self.training
        prompts = request.args.get("prompts")
        if not _are_texts(prompts):
            t.context.ack(request, False, "prompts must be a list of texts.")
            return
        t.prompts[:] = self._spoken(prompts)
        t.journal.write("prompts", prompts=list(t.prompts))
        t.context.ack(request, True, "")

    def wait_paused(self, reason: str, advice: str) -> bool:
        """Give the device's memory back and wait; the heartbeat goes on.

        Returns:
            True to go on, False when a stop was asked for meanwhile.
        """
        t, context = self.training, self.training.context
        t.journal.write("state", state="paused", reason=reason, advice=advice)
        self._move(torch.device("cpu"))
        try:
            while True:
                requests = self._asked()
                if self._signal:
                    return False
                kinds = {r.kind for r in requests}
                for request in requests:
                    if request.kind == "resume" and "stop" not in kinds:
                        context.ack(request, True, "")
                    elif request.kind == "prompts":
                        self._change_prompts(request)
                    elif request.kind == "adjust":
                        self._adjust(request)
                    elif request.kind in {"save", "stop"}:
                        self._serve(request)
                    else:
                        asked = "The run is asked to stop." if "stop" in kinds else "The run is paused."
                        context.ack(request, False, asked)
                if kinds & {"resume", "stop"}:
                    return not self._stop
                time.sleep(POLL_S)
        finally:
            self._move(t.placement.device)
            if not (self._stop or self._signal):
                t.journal.write("state", state="running")

    def _move(self, device: torch.device) -> None:
        t = self.training
        if t.placement.device.type == "cpu":
            return
        t.parts.denoiser.to(device)
        for state in t.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    state[name] = value.to(device)
        t.placement.free()


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(p, str) and p.strip() for p in value)
